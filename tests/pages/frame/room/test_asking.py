"""Questions about a run, against its arrays."""

import pytest

from pages.common import text
from pages.frame.room import asking
from tests.traces import random_trace

TRACE = random_trace(seed=4, num_prompt=5, num_new=6)


@pytest.mark.parametrize("token", range(TRACE.num_tokens - 1))
def test_the_next_token_is_an_option_and_the_text_ends_before_it(token: int) -> None:
    question = asking.next_token(TRACE, token, vocabulary=None)
    assert question.truth == {text.token(TRACE, token + 1)}
    assert question.truth <= set(question.options)
    assert list(question.options) == sorted(set(question.options))
    assert 1 < len(question.options) <= asking.NUM_OPTIONS
    assert question.context.encode() == TRACE.text[: TRACE.tokens[token].end].decode("utf-8", "replace").encode()


def test_every_selected_expert_is_right_and_all_experts_are_options() -> None:
    question = asking.expert(TRACE, 3, layer=2)
    chosen = TRACE.data["expert_id"].sel(moe_layer=2).values[3].tolist()
    assert question.truth == set(map(str, chosen))
    assert question.options == tuple(map(str, range(8)))
    assert "2 of 8 experts" in question.text
    assert "layer 2" in question.text


def test_long_text_is_cut_at_its_beginning() -> None:
    long = random_trace(seed=4, num_prompt=400, num_new=2)
    context = asking.next_token(long, 399, vocabulary=None).context
    assert len(context) == asking.CONTEXT_CHARACTERS + 1
    assert long.text[: long.tokens[399].end].decode("utf-8", "replace").endswith(context[1:])
