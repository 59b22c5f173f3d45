"""The tokens routed to an expert: its share of each part of the text and of each kind of token."""

import unicodedata
from typing import NamedTuple

import numpy as np
import xarray as xr

from model.trace import chance, routing
from model.trace.observed_rule import rule_of
from model.trace.trace import Trace

PARTS = ("prompt", "generated")
KINDS = ("begins a word", "goes on a word", "number", "punctuation", "white space", "special", "other")


class TakenShare(NamedTuple):
    """The share of the tokens of one part or kind that went to an expert, with Wilson's 95 % interval."""

    name: str  # "all", one of `PARTS`, or one of `KINDS`
    taken: int
    total: int
    share: float
    low: float
    high: float
    beyond: bool  # whether it is outside a fair router's bounds, which hold for all rows at once in 95 % of cases


def newest_token(trace: Trace) -> int:
    """Return the last token whose experts are known, else the last one; engines do not report those of last tokens."""
    if not trace.has("expert_id"):
        return trace.num_tokens - 1
    known = np.flatnonzero((trace.data["expert_id"].values >= 0).any((1, 2)))
    return int(known[-1]) if known.size else trace.num_tokens - 1


def part(trace: Trace, index: int) -> str:
    """Return the part of the text that a token is in, one of `PARTS`."""
    return "generated" if trace.tokens[index].generated else "prompt"


def kind(trace: Trace, index: int) -> str:
    """Return the kind of a token, one of `KINDS`, which depends on the token's text."""
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


def shares(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> list[TakenShare]:
    """Return the expert's share of all tokens, of each part and of each kind of token.

    Parts and kinds without tokens are left out.

    Args:
        trace: trace of the run, with `expert_id`.
        layer: model layer number.
        expert: number of the expert.
        mask: tokens that count, [token] bool.
    """
    taken = (trace.data["expert_id"].sel(moe_layer=layer).values == expert).any(-1)
    names = np.array([[part(trace, index), kind(trace, index)] for index in range(trace.num_tokens)])
    members = {"all": mask.values}
    for column, options in enumerate((PARTS, KINDS)):
        members |= {name: mask.values & (names[:, column] == name) for name in options}
    counts = [(name, int((tokens & taken).sum()), int(tokens.sum())) for name, tokens in members.items()]
    counts, fair = [row for row in counts if row[2]], rule_of(trace).fair_share
    rows = []
    for name, took, total in counts:
        least, most = chance.count_bounds(total, fair, 1 - 0.05 / len(counts)) if 0 < fair < 1 else (0, total)
        interval = routing.share_interval(took, total)
        rows.append(TakenShare(name, took, total, took / total, *interval, not least <= took <= most))
    return rows
