"""The paragraph for newcomers on the first screen."""

import dataclasses
import re
from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from model.checkpoint.embedded import PRESETS
from model.trace.trace import Trace
from pages.observe.explore import newcomer
from tests.traces import family_trace, random_trace

TITLE = "New to experts? The words of this page"


def named(name: str | None) -> Trace:
    return dataclasses.replace(random_trace(), model=dict(random_trace().model) | {"name": name})


def test_the_first_screen_has_the_paragraph_folded(open_app: Callable[..., AppTest]) -> None:
    app = open_app()
    (expander,) = [part for part in app.expander if part.label == TITLE]
    assert not expander.proto.expanded
    words = " ".join(part.value for part in expander.markdown)
    for word in ("tokens", "router", "experts", "groups", "load"):
        assert f"**{word}**" in words
    assert "has 2 such layers of 8 experts in 4 groups, and a token goes to 2 of them in each" in words
    assert "toy" not in words


def test_only_an_embedded_model_is_called_a_toy_with_its_real_size() -> None:
    assert newcomer.toy(named("my-model")) == newcomer.toy(named(None)) == []
    (sentence,) = newcomer.toy(named("mini-v3"))
    card = (PRESETS / "mini-v3" / "MODEL_CARD.md").read_text(encoding="utf-8")
    total = int(re.findall(r"size \| ([\d,]+) parameters", card)[0].replace(",", ""))
    assert f"a toy of {total / 1e6:.0f} M parameters" in sentence


def test_a_router_without_groups_has_none() -> None:
    assert newcomer.numbers(family_trace()) == [
        "family has 3 such layers of 8 experts, and a token goes to 2 of them in each."
    ]
