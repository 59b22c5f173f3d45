"""The tokens and the text of each step of a run."""

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
    text, tokens = steps[-1].text if steps else b"", []
    for token_id in token_ids:
        spelled = tokenizer.token_bytes(token_id) if tokenizer else b""
        piece = tokenizer.piece(token_id) if tokenizer else ""
        tokens.append(Token(token_id, piece, len(text), len(text) + len(spelled), bool(steps)))
        text += spelled
    start = sum(len(step.tokens) for step in steps)
    return Step(start, tuple(tokens), text, arrays)
