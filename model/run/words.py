"""The tokens and the text of a run: checks of the prompt, and the words of each step."""

import itertools
from collections.abc import Sequence

import numpy as np

from model.checkpoint.tokenizer import Tokenizer
from model.run.request import RequestError, RunRequest
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


def check_ids(token_ids: Sequence[int], vocab_size: int) -> None:
    """Check that token ids are in the vocabulary.

    Raises:
        RequestError: one is not.
    """
    if outside := [i for i in token_ids if not 0 <= i < vocab_size]:
        raise RequestError(f"token id {outside[0]} does not exist; ids are 0 to {vocab_size - 1}")


def check_length(token_ids: Sequence[int], request: RunRequest, context: int) -> None:
    """Check that a prompt and the tokens to generate fit the context.

    Raises:
        RequestError: they do not.
    """
    if len(token_ids) + request.max_new_tokens > context:
        raise RequestError(
            f"{len(token_ids):,} prompt tokens and {request.max_new_tokens:,} new ones do not fit "
            f"the model's context of {context:,}; shorten the prompt or ask for fewer"
        )
