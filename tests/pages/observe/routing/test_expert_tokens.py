import dataclasses

import numpy as np

from model.trace import expert_tokens as kinds_of_tokens
from model.trace.trace import Token, Trace
from pages.common.menu import page_path
from pages.observe.routing import expert_tokens
from tests.traces import random_trace

PAGE = page_path("routing")


def spelled(*pieces: str) -> Trace:
    """A trace of these tokens after the first, which is special."""
    trace, text, tokens = random_trace(num_prompt=len(pieces) + 1, num_new=0), b"", []
    tokens.append(trace.tokens[0])
    for piece in pieces:
        tokens.append(Token(1, piece, len(text), len(text) + len(piece.encode()), False))
        text += piece.encode()
    ids = np.array([token.id for token in tokens], np.int32)
    data = trace.data.assign(token_id=(("token",), ids)).copy(deep=True)
    return dataclasses.replace(trace, data=data, tokens=tuple(tokens), text=text)


def test_context_shows_white_space() -> None:
    trace = spelled("Once", " upon", " a", "\n", "time")
    assert expert_tokens.context(trace, 3, reach=1) == ("·upon", "⏎")
    assert expert_tokens.context(trace, 1, reach=3) == ("", "·upon·a⏎")


def test_shares_of_kinds_sum_to_the_tokens_taken() -> None:
    trace = random_trace(num_prompt=30)
    every = trace.prompt_mask | True
    shares = expert_tokens.shares(trace, 1, 3, every).set_index("tokens that are")
    kinds = [kind for kind in kinds_of_tokens.KINDS if kind in shares.index]
    assert shares.loc[kinds, "taken"].sum() == shares.loc["all", "taken"]
    assert shares.loc[kinds, "of"].sum() == shares.loc["all", "of"] == trace.num_tokens
    assert shares.loc["all", "taken"] == len(expert_tokens.taken_by(trace, 1, 3, every))
    assert (shares["low (95 %)"] <= shares["share"]).all()
