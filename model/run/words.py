"""The tokens and the text of each step of a run."""

import itertools
from collections.abc import Sequence

import numpy as np

from model.checkpoint.tokenizer import Tokenizer
from model.run.step import Step
from model.trace.trace import Token


def next_step(
    tokenizer: Tokenizer | None, steps: Sequence[Step], token_ids: Sequence[int], arrays: dict[str, np.ndarray]
) -> Step:
    """Return the step that feeds `token_ids` after `steps`; the first step is the prompt.

    Without a tokenizer, tokens have no text.
    """
    start, text = (steps[-1].start + len(steps[-1].tokens), steps[-1].text) if steps else (0, b"")
    pieces = [tokenizer.piece(token_id) if tokenizer else "" for token_id in token_ids]
    spelled = [tokenizer.token_bytes(token_id) if tokenizer else b"" for token_id in token_ids]
    ends = itertools.accumulate(map(len, spelled), initial=len(text))
    spans = itertools.pairwise(ends)
    tokens = [
        Token(token_id, piece, begin, end, bool(steps))
        for token_id, piece, (begin, end) in zip(token_ids, pieces, spans, strict=True)
    ]
    return Step(start, tuple(tokens), text + b"".join(spelled), arrays)
