"""The tables of the Compare page: by layer, by token with a split, by log-probability, and for one token.

A split is a layer in which a token has different experts in the two runs (`model/trace/comparison.py`).
"""

import pandas as pd
import xarray as xr

from model.trace import comparison_report as report
from model.trace import rollout
from model.trace.comparison import VERDICTS, Comparison
from pages.common import text

# Key in a layer's row of the report -> name of the column.
_LAYER_COLUMNS = {
    "layer": "layer",
    "choices": "choices",
    "equal": "equal sets",
    "equal_low": "low (95 %)",
    "equal_high": "high (95 %)",
    "jaccard": "Jaccard",
    "weight_mean": "Δ weight, mean",
    "weight_difference": "Δ weight, most",
    "bias_difference": "Δ bias, most",
}


def by_layer(comparison: Comparison) -> pd.DataFrame:
    """Return a table with a row per MoE layer; a kind of split that never occurs has no column."""
    rows = pd.DataFrame(report.layer_rows(comparison))
    fractions = {column: float for column in list(_LAYER_COLUMNS.values())[2:]}
    table = rows.rename(columns=_LAYER_COLUMNS).astype(fractions)
    if comparison.chance is not None:
        table.insert(table.columns.tolist().index("Jaccard") + 1, "Jaccard by chance", comparison.chance.jaccard)
    return table.drop(columns=[verdict for verdict in VERDICTS if not rows[verdict].to_numpy().any()])


def by_token(comparison: Comparison) -> pd.DataFrame:
    """Return a table with a row per token whose routing differs between the runs."""
    rows = report.token_rows(comparison)
    return pd.DataFrame(
        {
            "token": [row["token"] for row in rows],
            "in B": [row["token_b"] for row in rows],
            "text": [text.token(comparison.a, row["token"]) for row in rows],
            "splits first in": [f"L{row['layer']}" for row in rows],
            "which is": [row["verdict"] for row in rows],
            "margin": pd.Series([row["margin"] for row in rows], dtype=float),
            "only A": [_experts(row["only_a"]) for row in rows],
            "only B": [_experts(row["only_b"]) for row in rows],
            "layers split": [row["layers_split"] for row in rows],
            "log-probability, B - A (nat)": pd.Series([row["logprob_difference"] for row in rows], dtype=float),
        }
    )


def figures(comparison: Comparison) -> pd.DataFrame:
    """Return a table with a row per figure of rollout (A) and trainer (B)."""
    rows = rollout.figure_rows([comparison])
    return pd.DataFrame(
        {
            "figure": [row["figure"] for row in rows],
            "value": pd.Series([row["value"] for row in rows], dtype=float),
            "n": [row["n"] for row in rows],
            "meaning": [rollout.FIGURES[row["figure"]].replace("--tau", f"{rollout.TAU:g}") for row in rows],
        }
    )


def log_probabilities(comparison: Comparison) -> pd.DataFrame:
    """Return a table with a row per token that both runs have: its log-probability in both, and the difference."""
    difference, pairs = with_tokens(comparison, "logprob_difference"), comparison.alignment.pairs
    return pd.DataFrame(
        {
            "token": difference["token"].values,
            "text": [text.token(comparison.a, token) for token in pairs[:, 0].tolist()],
            "A (nat)": comparison.a.data["logprob"].values[pairs[:, 0]],
            "B (nat)": comparison.b.data["logprob"].values[pairs[:, 1]],
            "B - A (nat)": difference.values,
        }
    )


def of_token(comparison: Comparison, token: int) -> pd.DataFrame | None:
    """Return a table with a row per MoE layer: one token's experts in both runs; None if run B lacks the token."""
    tokens = comparison.alignment.pairs[:, 0].tolist()
    if token not in tokens:
        return None
    pair, rows = tokens.index(token), []
    for index, layer in enumerate(comparison.choices["moe_layer"].values.tolist()):
        choice = comparison.choices.isel(pair=pair, moe_layer=index)
        experts_a, experts_b = report.experts_at(comparison, pair, layer)
        rows.append(
            {
                "layer": layer,
                "both": _experts(experts_a & experts_b),
                "only A": _experts(experts_a - experts_b),
                "only B": _experts(experts_b - experts_a),
                "which is": VERDICTS[choice["verdict"].item()],
                "margin": choice["margin"].item(),
                "Δ weight, most": choice["weight_difference"].item(),
            }
        )
    return pd.DataFrame(rows)


def with_tokens(comparison: Comparison, variable: str) -> xr.DataArray:
    """Return a variable of the comparison, [pair, ...], with the token index in run A as coordinate `token`."""
    return comparison.choices[variable].assign_coords(token=("pair", comparison.alignment.pairs[:, 0]))


def _experts(numbers: list[int] | set[int]) -> str:
    return ", ".join(f"E{number}" for number in sorted(numbers))
