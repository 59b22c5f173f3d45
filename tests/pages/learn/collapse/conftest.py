"""Short runs, and how a test waits for them."""

import pytest
from streamlit.testing.v1 import AppTest

from pages.learn.collapse import runs


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "STEPS", 30)


def finish(app: AppTest) -> AppTest:
    for run in app.session_state["nano-runs"].values():
        assert run.done.wait(60)
    return app.run()
