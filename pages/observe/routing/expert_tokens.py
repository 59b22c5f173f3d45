"""What one expert took: its tokens in context, and its share of each kind of token."""

import unicodedata

import numpy as np
import pandas as pd
import xarray as xr

from model.trace import routing
from model.trace.trace import Trace
from pages.common import text

PARTS = ("prompt", "generated")
KINDS = ("begins a word", "goes on a word", "number", "punctuation", "white space", "special", "other")
REACH = 6  # tokens of context on either side
SHARE_COLUMNS = ["tokens that are", "taken", "of", "share", "low (95 %)", "high (95 %)"]


def taken_by(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> pd.DataFrame:
    """The tokens that an expert took, in context, a row per token in the order of the run."""
    ids = trace.data["expert_id"].sel(moe_layer=layer).values
    places, ranks = np.nonzero((ids == expert) & mask.values[:, None])
    table = _in_context(trace, layer, expert, places)
    if trace.has("gate_weight"):
        table["weight"] = trace.data["gate_weight"].sel(moe_layer=layer).values[places, ranks]
        table["rank"] = ranks
    return table


def closest_to(trace: Trace, layer: int, expert: int, mask: xr.DataArray, count: int = 8) -> pd.DataFrame:
    """The tokens whose affinity to an expert is highest, in context, whether or not it took them."""
    scores = trace.data["router_score"].sel(moe_layer=layer).values[:, expert]
    places = np.flatnonzero(mask.values)
    return _in_context(trace, layer, expert, places[np.argsort(-scores[places], kind="stable")[:count]])


def _in_context(trace: Trace, layer: int, expert: int, places: np.ndarray) -> pd.DataFrame:
    around = [context(trace, index) for index in places.tolist()]
    table = pd.DataFrame(
        {
            "token": places,
            "before": [before for before, _ in around],
            "text": [text.token(trace, index) for index in places.tolist()],
            "after": [after for _, after in around],
            "part": [_part(trace, index) for index in places.tolist()],
        }
    )
    if trace.has("router_score"):
        table["affinity"] = trace.data["router_score"].sel(moe_layer=layer).values[places, expert]
    return table


def _part(trace: Trace, index: int) -> str:
    return "generated" if trace.tokens[index].generated else "prompt"


def context(trace: Trace, index: int, reach: int = REACH) -> tuple[str, str]:
    """What stands before and after a token, so many tokens far, white space visible."""
    first, last = max(0, index - reach), min(trace.num_tokens, index + reach + 1)
    if trace.text:
        entry, start, end = trace.tokens[index], trace.tokens[first].start, trace.tokens[last - 1].end
        return text.visible(trace.text[start : entry.start]), text.visible(trace.text[entry.end : end])
    before, after = range(first, index), range(index + 1, last)
    return " ".join(text.token(trace, at) for at in before), " ".join(text.token(trace, at) for at in after)


def kind(trace: Trace, index: int) -> str:
    """What sort of token it is, one of `KINDS`, by its own text."""
    entry = trace.tokens[index]
    if entry.special:
        return "special"
    spelled = trace.text[entry.start : entry.end].decode("utf-8", errors="replace")
    letters = spelled.strip()
    if not letters:
        return "white space" if spelled else "other"
    if letters[0].isalpha():
        begins = spelled != letters or entry.start == 0 or not _ends_in_letter(trace.text[: entry.start][-4:])
        return "begins a word" if begins else "goes on a word"
    if letters[0].isdecimal():
        return "number"
    return "punctuation" if unicodedata.category(letters[0])[0] in "PS" else "other"


def _ends_in_letter(before: bytes) -> bool:
    return before.decode("utf-8", errors="ignore")[-1:].isalpha()


def shares(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> pd.DataFrame:
    """Of the tokens of each part and kind, how many an expert took, with the interval of the share.

    Kinds without a token are left out.
    """
    took = (trace.data["expert_id"].sel(moe_layer=layer).values == expert).any(-1)
    names = np.array([[_part(trace, index), kind(trace, index)] for index in range(trace.num_tokens)])
    members = {"all": mask.values}
    for column, options in enumerate((PARTS, KINDS)):
        members |= {name: mask.values & (names[:, column] == name) for name in options}
    counts = [(name, int((of & took).sum()), int(of.sum())) for name, of in members.items() if of.any()]
    rows = [(*row, row[1] / row[2], *routing.share_interval(row[1], row[2])) for row in counts]
    return pd.DataFrame(rows, columns=SHARE_COLUMNS)
