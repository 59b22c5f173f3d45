import dataclasses

import numpy as np

from model.trace.trace import Token
from pages.common import text
from tests.traces import random_trace
from viz.tokens import visible


class Vocabulary:
    """Three entries: a special token, a part of a character after white space, one without a name."""

    def token_bytes(self, token_id: int) -> bytes:
        return b" \t\xe2\x82" if token_id == 1 else b""

    def piece(self, token_id: int) -> str:
        return "<bos>" if token_id == 0 else ""


def test_tokens_are_named_by_their_text_their_entry_or_their_number() -> None:
    trace, spelled = random_trace(num_prompt=3, num_new=0), b" \xff<script>"
    end = len(spelled)
    tokens = (Token(0, "<bos>", 0, 0, False), Token(5, "x", 0, end, False), Token(7, "", end, end, True))
    data = trace.data.assign(token_id=("token", np.array([0, 5, 7], np.int32)))
    trace = dataclasses.replace(trace, data=data, tokens=tokens, text=spelled)
    assert [text.token(trace, index) for index in range(3)] == ["<bos>", "·\\xff<script>", "#7"]


def test_entries_of_the_vocabulary_look_as_tokens_do() -> None:
    vocabulary = Vocabulary()
    assert [text.entry(entry, vocabulary) for entry in range(3)] == ["<bos>", "·→\\xe2\\x82", "#2"]
    assert text.entry(1, vocabulary) == visible(vocabulary.token_bytes(1))
    assert text.entry(3, None) == "#3"
