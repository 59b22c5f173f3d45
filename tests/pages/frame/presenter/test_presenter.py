"""Presenter mode: by a link, on every page, until it is left."""

import json
from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.frame.presenter import presenter
from tests.pages.conftest import charts, type_sizes
from tests.pages.frame.look.test_look import styles

SMALLEST_PX = 18
WITH_FIGURES = ("routing", "expert_load", "attention", "compare", "architecture", "data", "training")


def on(app: AppTest) -> bool:
    """Return whether the server tells the browser that presenter mode is on."""
    found = [element.proto for element in app.get("bidi_component")]
    (sent,) = [json.loads(proto.json) for proto in found if proto.component_name == "moe_loupe_presenter"]
    return sent["on"]


def test_link_presents_every_page_until_it_is_left(open_app: Callable[..., AppTest]) -> None:
    app = open_app(present="1")
    assert on(app)
    assert "html[data-presenting]" in styles(app)
    app = app.switch_page("pages/observe/routing/page.py").run()
    assert on(app)
    assert app.query_params["present"] == "1"
    app.session_state[presenter.KEY] = False  # what Esc does
    app.run()
    assert not on(app)
    assert "present" not in app.query_params
    assert not on(app.switch_page("pages/observe/tokens/page.py").run())


def test_other_values_and_no_value_do_not_present(open_app: Callable[..., AppTest]) -> None:
    assert not on(open_app())
    assert not on(open_app(present="yes"))


def test_no_type_of_a_figure_is_smaller_than_18_pixels(open_app: Callable[..., AppTest]) -> None:
    """On the pages whose figures need no experiment; `charts` looks at the figures of all page tests at normal size."""
    app, small = open_app(present="1"), {}
    for name in WITH_FIGURES:
        app.switch_page(str(page_path(name)))
        app.query_params["of"] = "DeepSeek-V3"  # else the Architecture page draws the fake model, which has no parts
        figures = charts(app.run())
        assert figures, name
        small[name] = [size for figure in figures for size in type_sizes(figure) if size < SMALLEST_PX]
        assert all(figure["layout"]["font"]["size"] >= SMALLEST_PX for figure in figures)
    assert small == {name: [] for name in WITH_FIGURES}
