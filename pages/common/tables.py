"""Tables of a trace that several pages show and offer as downloads."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from model.trace import load as loads
from model.trace import metrics
from model.trace.load import Load
from model.trace.trace import Trace
from pages.common import text

if TYPE_CHECKING:
    from model.checkpoint.tokenizer import Tokenizer

# Number formats of table columns: three digits, a share in per cent, a whole number with separators.
# The last has a width: Streamlit would choose one without the separators, and a narrow column cuts off digits.
THREE, SHARE = (st.column_config.NumberColumn(format=pattern) for pattern in ("%.3g", "percent"))
WIDE = 135  # pixels, for 15 characters
WHOLE = st.column_config.NumberColumn(format="localized", width=WIDE)
NEXT_TOKENS = {
    "probability": st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.3g"),
    "log-probability (nat)": THREE,
}


def three_digits(table: pd.DataFrame) -> dict[str, Any]:
    """Return the format of a table's columns of fractions: three digits on the page, all digits in files."""
    return {str(name): THREE for name in table.columns if table[name].dtype.kind == "f"}


def tokens(trace: Trace) -> pd.DataFrame:
    """Return a table with a row per token."""
    surprisal = metrics.surprisal_bits(trace.data["logprob"]).values if trace.has("logprob") else np.nan
    return pd.DataFrame(
        {
            "token": range(trace.num_tokens),
            "text": [text.token(trace, index) for index in range(trace.num_tokens)],
            "id": [entry.id for entry in trace.tokens],
            "bytes": [entry.end - entry.start for entry in trace.tokens],
            "part": ["generated" if entry.generated else "prompt" for entry in trace.tokens],
            "special": [entry.special for entry in trace.tokens],
            "surprisal (bit)": surprisal,
        }
    )


def with_bytes(trace: Trace, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of tokens with two more columns, for a file: each token's raw text and its bytes (hexadecimal)."""
    spelled = [trace.text[token.start : token.end] for token in trace.tokens]
    raw = [part.decode(errors="replace") for part in spelled]
    return table.assign(**{"raw text": raw, "bytes (hex)": [part.hex(" ") for part in spelled]})


def matrix(values: xr.DataArray) -> pd.DataFrame:
    """Return an array with two axes as a table: a column of the first axis's labels, then a column per second label."""
    rows, columns = map(str, values.dims)
    table = pd.DataFrame(values.values, values.get_index(rows), values.get_index(columns))
    return table.rename(columns=str).reset_index()


def keys_of(trace: Trace, query: int, **values: xr.DataArray) -> pd.DataFrame:
    """Return a table with a row per key that a query can see, and a column per array [key] in `values`."""
    names = [text.token(trace, key) for key in range(query + 1)]
    columns = {name: row.values[: query + 1] for name, row in values.items()}
    return pd.DataFrame({"key": range(query + 1), "text": names} | columns)


def next_tokens(trace: Trace, token: int, vocabulary: "Tokenizer | None") -> pd.DataFrame:
    """Return a table of the most probable tokens after a token, with the model's probabilities at temperature 1."""
    at = trace.data.isel(token=token)
    logprob, probability = at["candidate_logprob"].values, metrics.probability(at["candidate_logprob"]).values
    return pd.DataFrame(
        {
            "rank": range(1, len(logprob) + 1),
            "token": [text.entry(entry, vocabulary) for entry in at["candidate_id"].values.tolist()],
            "id": at["candidate_id"].values,
            "probability": probability,
            "log-probability (nat)": logprob,
        }
    )


def experts(trace: Trace, token: int) -> pd.DataFrame:
    """Return a table of a token's experts: a row per MoE layer, a column per rank.

    Rank 0 has the largest gate weight; without recorded weights, ranks are in the order of the recording.
    """
    at = trace.data.isel(token=token)
    ids = at["expert_id"].values
    weights = at["gate_weight"].values if trace.has("gate_weight") else np.full(ids.shape, np.nan)
    table: dict[str, object] = {"layer": at["moe_layer"].values}
    for rank in range(ids.shape[1]):
        pairs = zip(ids[:, rank].tolist(), weights[:, rank].tolist(), strict=True)
        table[f"rank {rank}"] = [_slot(expert, weight) for expert, weight in pairs]
    return pd.DataFrame(table)


def _slot(expert: int, weight: float) -> str:
    known = f"E{expert}" if np.isnan(weight) else f"E{expert}  {weight:.2f}"
    return known if expert >= 0 else "unknown"


def routing(trace: Trace) -> pd.DataFrame:
    """Return a table with a row per token, layer and rank: the expert and its gate weight."""
    recorded = [name for name in ("expert_id", "gate_weight") if trace.has(name)]
    slots = trace.data[recorded].to_dataframe().reset_index()
    names = {"token": "token", "layer": "moe_layer", "rank": "rank", "expert": "expert_id", "weight": "gate_weight"}
    return pd.DataFrame({label: slots[name] for label, name in names.items() if name in slots})


def load_by_layer(load: Load) -> pd.DataFrame:
    """Return a table with a row per layer: how evenly the layer's experts share the tokens."""
    measures = loads.by_layer(load)
    layers = measures["moe_layer"].values
    names = {"max_violation": "MaxVio", "variation": "CV", "entropy": "entropy", "gini": "Gini", "dead": "dead"}
    names |= {"hot": "hot"}
    table: dict[str, object] = {"layer": [f"L{layer}" for layer in layers], "tokens": load.num_tokens}
    table |= {label: measures[name].values for name, label in names.items()}
    busiest = measures["busiest"].values
    table["busiest"] = [f"L{layer}E{expert}" for layer, expert in zip(layers, busiest, strict=True)]
    if load.band is not None:
        table["beyond chance"] = measures["outside"].values
    return pd.DataFrame(table)
