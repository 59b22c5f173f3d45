"""`hide=` in a URL: which controls it hides, and what it says of names that are no controls."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.frame.presenter import hidden
from tests.pages.frame.look.test_look import styles


def test_link_hides_controls_on_every_page_and_stays_in_the_url(open_app: Callable[..., AppTest]) -> None:
    app = open_app(hide="sidebar, Examples")
    assert not app.warning
    assert '[data-testid="stSidebar"]' in styles(app)
    assert ".st-key-examples {" in styles(app)
    assert app.query_params["hide"] == "sidebar,examples"
    app = app.switch_page("pages/observe/routing/page.py").run()
    assert ".st-key-examples {" in styles(app)
    assert app.query_params["hide"] == "sidebar,examples"


def test_without_the_parameter_nothing_is_hidden(open_app: Callable[..., AppTest]) -> None:
    app = open_app()
    assert ".st-key-examples {" not in styles(app)
    assert "hide" not in app.query_params


def test_unknown_names_are_said_in_one_line_and_the_others_hidden(open_app: Callable[..., AppTest]) -> None:
    app = open_app(hide="tabs,<b>menu</b>")
    (warning,) = app.warning
    assert warning.value == (
        "The link hides `<b>menu</b>`, which is no control. It can hide sidebar, prompt, examples, settings, choices, "
        "tabs, numbers, lens-tools."
    )
    assert app.query_params["hide"] == "tabs"
    assert not app.switch_page("pages/observe/routing/page.py").run().warning


@pytest.mark.parametrize("name", hidden.HIDES)
def test_every_name_hides_something(open_app: Callable[..., AppTest], name: str) -> None:
    app = open_app(hide=name)
    assert not app.warning
    assert (hidden.HIDES[name] or "--lens-tools: none") in styles(app)
