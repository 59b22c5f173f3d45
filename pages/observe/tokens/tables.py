"""Tables of the tokens of a run."""

import numpy as np
import pandas as pd

from model.trace import token_counts
from model.trace.trace import Token, Trace
from pages.common import tables
from viz.boundaries import spelled_bytes
from viz.tokens import inside_characters, inside_lookalikes, special_lookalikes

SPECIAL, ADDED, LOOKALIKE, TEXT = "special", "added", "looks special", "text"


def by_token(trace: Trace) -> pd.DataFrame:
    """Return a table with a row per token: its text, bytes and kind."""
    table = tables.tokens(trace).rename(columns={"special": "kind"})
    spelled = [trace.text[token.start : token.end] for token in trace.tokens]
    table.insert(4, "as bytes", [spelled_bytes(part) for part in spelled])
    table["kind"] = kinds(trace)
    table["vocabulary"] = [token.piece for token in trace.tokens]
    return table


def kinds(trace: Trace) -> list[str]:
    """Return the kind of every token: special, added to the vocabulary, text that looks special, or other text."""
    lookalike, added = inside_lookalikes(trace.text), set(special_lookalikes(trace.text))

    def kind(token: Token) -> str:
        if token.special or (token.start, token.end) in added:
            return SPECIAL if token.special else ADDED
        return LOOKALIKE if lookalike[token.start : token.end].any() else TEXT

    return [kind(token) for token in trace.tokens]


def by_part(trace: Trace) -> pd.DataFrame:
    """Return a table with the counts and sizes of the whole text, the prompt and the generated text."""
    generated, inside = ~trace.prompt_mask.values, inside_characters(trace.text)
    masks = {"whole text": generated | True, "prompt": ~generated, "generated": generated}
    rows = []
    for part, mask in masks.items():
        counts = token_counts.count(trace, mask, inside)._asdict()
        rows.append({"part": part} | {name.replace("_", " "): number for name, number in counts.items()})
    return pd.DataFrame(rows)


def by_size(lengths: np.ndarray) -> pd.DataFrame:
    """Return a table of how many tokens have 1, 2, ... bytes. `lengths` has the bytes of each token, [token]."""
    counts = token_counts.tokens_by_size(lengths)
    return pd.DataFrame({"bytes per token": range(1, 1 + len(counts)), "tokens": counts})
