"""Tables of the tokens of one expert, each token with its context."""

import numpy as np
import pandas as pd
import xarray as xr

from model.trace import expert_tokens
from model.trace.trace import Trace
from pages.common import text

REACH = 6  # tokens of context on either side
SHARE_COLUMNS = ["tokens that are", "taken", "of", "share", "low (95 %)", "high (95 %)", "beyond chance"]


def taken_by(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> pd.DataFrame:
    """Return a table with a row per token in `mask` [token] that was routed to the expert, in the order of the run."""
    ids = trace.data["expert_id"].sel(moe_layer=layer).values
    tokens, ranks = np.nonzero((ids == expert) & mask.values[:, None])
    table = _in_context(trace, layer, expert, tokens)
    if trace.has("gate_weight"):
        table["weight"] = trace.data["gate_weight"].sel(moe_layer=layer).values[tokens, ranks]
        table["rank"] = ranks
    return table


def closest_to(trace: Trace, layer: int, expert: int, mask: xr.DataArray, count: int = 8) -> pd.DataFrame:
    """Return a table of the `count` tokens in `mask` with the highest affinity to the expert, routed to it or not."""
    scores = trace.data["router_score"].sel(moe_layer=layer).values[:, expert]
    tokens = np.flatnonzero(mask.values)
    return _in_context(trace, layer, expert, tokens[np.argsort(-scores[tokens], kind="stable")[:count]])


def _in_context(trace: Trace, layer: int, expert: int, tokens: np.ndarray) -> pd.DataFrame:
    around = [context(trace, index) for index in tokens.tolist()]
    table = pd.DataFrame(
        {
            "token": tokens,
            "before": [before for before, _ in around],
            "text": [text.token(trace, index) for index in tokens.tolist()],
            "after": [after for _, after in around],
            "part": [expert_tokens.part(trace, index) for index in tokens.tolist()],
        }
    )
    if trace.has("router_score"):
        table["affinity"] = trace.data["router_score"].sel(moe_layer=layer).values[tokens, expert]
    return table


def context(trace: Trace, index: int, reach: int = REACH) -> tuple[str, str]:
    """Return the text before and after a token, up to `reach` tokens on either side, with visible white space."""
    first, last = max(0, index - reach), min(trace.num_tokens, index + reach + 1)
    if trace.text:
        entry, start, end = trace.tokens[index], trace.tokens[first].start, trace.tokens[last - 1].end
        return text.visible(trace.text[start : entry.start]), text.visible(trace.text[entry.end : end])
    before, after = range(first, index), range(index + 1, last)
    return " ".join(text.token(trace, at) for at in before), " ".join(text.token(trace, at) for at in after)


def shares(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> pd.DataFrame:
    """Return a table with a row per part and kind of token: the share routed to the expert, with an interval."""
    return pd.DataFrame(expert_tokens.shares(trace, layer, expert, mask), columns=SHARE_COLUMNS)
