import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.trace import Token, Trace
from pages.common.menu import page_path
from pages.observe.tokens.tabs import PARTS, SIZES, TABLE
from tests.pages.conftest import said
from tests.pages.fakes import FakeEngine
from tests.pages.observe.tokens.test_overview import chips, strip
from tests.traces import random_trace, spelling

OpenApp = Callable[..., AppTest]
PAGE = page_path("tokens")


def from_ids() -> Trace:
    random = random_trace()
    tokens = tuple(Token(token.id, "", 0, 0, token.generated) for token in random.tokens)
    return dataclasses.replace(random, tokens=tokens, text=b"")


def test_first_screen_of_the_recorded_run(show_at: OpenApp, engine: FakeEngine) -> None:
    app = show_at()
    assert chips(app) == 14
    assert "**14 tokens** (1 special) spell" in said(app)
    assert ":gray-badge[recorded]" in said(app)
    assert len(app.dataframe[0].value) == 14
    assert engine.requests == []


def test_link_restores_the_token_and_the_tab(show_at: OpenApp) -> None:
    app = show_at(spelling(b"Once", "é".encode()[:1], "é".encode()[1:]), token="2", of=PARTS)
    assert app.number_input(key="token").value == 2
    assert strip(app).count("chip chosen") == 1
    assert "1 byte C3, prompt; part 1 of 2 of `é`, tokens 2 to 3; code points U+00E9" in said(app)
    table = app.dataframe[0].value
    assert table["part"].tolist() == ["whole text", "prompt", "generated"]


@pytest.mark.parametrize("tab", [TABLE, PARTS, SIZES])
def test_trace_made_from_ids_shows_ids(show_at: OpenApp, tab: str) -> None:
    app = show_at(from_ids(), of=tab)
    assert "without a tokenizer" in app.info[0].value
    assert chips(app) == 10
    assert f"#{from_ids().tokens[1].id}<" in strip(app)


def test_no_trace(show_at: OpenApp, recorded: Path) -> None:
    (recorded / "story.safetensors").unlink()
    app = show_at()
    assert not app.exception
    assert "Nothing was run yet" in app.info[0].value
