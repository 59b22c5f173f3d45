"""Tokens of the steps of a run: byte offsets continue from step to step, and the first step is the prompt."""

from model.checkpoint.embedded import find_model
from model.checkpoint.tokenizer import Tokenizer
from model.run.words import next_step


def test_offsets_continue_and_later_steps_are_generated() -> None:
    tokenizer = Tokenizer.load(find_model("mini-v3"))
    ids = tokenizer.encode("Löwe und Maus")
    first = next_step(tokenizer, [], ids[:-1], {})
    second = next_step(tokenizer, [first], ids[-1:], {})
    assert second.text.decode() == "Löwe und Maus"
    assert (second.start, second.tokens[0].start, second.tokens[0].end) == (
        len(ids) - 1, len(first.text), len(second.text)
    )  # fmt: skip
    assert [token.generated for token in (*first.tokens, *second.tokens)] == [False] * (len(ids) - 1) + [True]


def test_without_a_tokenizer_tokens_have_no_text() -> None:
    step = next_step(None, [], [5, 6], {})
    assert step.text == b""
    assert [token.id for token in step.tokens] == [5, 6]
