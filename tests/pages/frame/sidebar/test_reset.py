"""Start over brings back the first screen; Undo brings back the run, the choices and the page."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from tests.pages.conftest import said
from tests.pages.fakes import FakeEngine


def with_a_run(app: AppTest) -> AppTest:
    """Run a text of the visitor's own, look at one token on another page, and hide the examples."""
    app.text_area(key="prompt").set_value("The sun")
    app.number_input(key="seed").set_value(7)
    app.button(key="generate").click().run()
    app = app.switch_page("pages/observe/tokens/page.py").run()
    app.number_input(key="token").set_value(1).run()
    assert app.session_state["run"].request.prompt == "The sun"
    return app


def on_show(app: AppTest) -> str:
    (line,) = [caption.value for caption in app.sidebar.caption if caption.value.startswith("On show: ")]
    return line


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.sidebar.button]


def test_start_over_brings_back_the_first_screen(open_app: Callable[..., AppTest], engine: FakeEngine) -> None:
    first = open_app()
    before, prompt = on_show(first), first.text_area(key="prompt").value
    app = with_a_run(open_app(hide="examples"))
    app.button(key="start-over").click().run()
    assert not app.exception
    assert on_show(app) == before
    assert app.text_area(key="prompt").value == prompt
    assert app.number_input(key="seed").value == first.number_input(key="seed").value
    assert app.number_input(key="token").value is None
    assert not {"token", "prompt", "seed", "session", "hide"} & set(app.query_params)


def test_undo_brings_back_the_run_and_the_page(open_app: Callable[..., AppTest], engine: FakeEngine) -> None:
    app = with_a_run(open_app())
    assert "Undo" not in labels(app)
    line, text, run = on_show(app), said(app), app.session_state["run"]
    app.button(key="start-over").click().run()
    assert "Undo" in labels(app)
    app.button(key="undo-start-over").click().run()
    assert not app.exception
    assert app.session_state["run"] is run
    assert (on_show(app), said(app)) == (line, text)
    assert app.number_input(key="token").value == 1
    assert "Undo" not in labels(app.run())


def test_the_next_run_ends_undo(open_app: Callable[..., AppTest], engine: FakeEngine) -> None:
    app = with_a_run(open_app())
    app.button(key="start-over").click().run()
    app.button(key="generate").click().run()
    assert "Undo" not in labels(app.run())
