"""The number of tokens of the prompt: of the text that was sent, and of what is typed since."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from model.run.request import RunRequest
from tests.pages.conftest import said
from tests.pages.fakes import FakeEngine


@pytest.fixture
def app(open_app: Callable[..., AppTest], engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Explore with a loaded model whose tokens are words."""

    def encode(engine: FakeEngine, request: RunRequest) -> list[int]:
        return [0] * len((request.prompt or "").split())

    app = open_app()
    app.button(key="generate").click().run()
    monkeypatch.setattr(FakeEngine, "encode", encode)
    return app


def test_text_that_is_typed_is_counted_and_after_it_the_text_that_was_sent(app: AppTest) -> None:
    app.text_area(key="prompt").set_value("The sun is").run()
    assert "The text has 3 tokens; the context holds 64." in said(app)
    app.text_area(key="prompt").set_value("Sun").run()
    assert "The text has 1 token; the context holds 64." in said(app)


def test_text_that_cannot_run_says_why(app: AppTest) -> None:
    app.text_area(key="prompt").set_value("x" * 20_001).run()
    assert "The prompt has 20,001 characters, at most 20,000 are run here; shorten it." in said(app)
    app.text_area(key="prompt").set_value(" ").run()
    assert "The text has" not in said(app)
    assert not app.exception
