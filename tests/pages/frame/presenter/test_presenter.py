"""Presenter mode: by a link, on every page, until it is left."""

import json
import re
from collections.abc import Callable

import numpy as np
from streamlit.testing.v1 import AppTest

from pages.common.menu import MENU, page_path
from pages.frame.presenter import presenter
from tests.pages.conftest import charts
from tests.pages.frame.look.test_look import styles

SMALLEST_PX = 18


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


def sizes(part: object) -> list[float]:
    """Return the sizes of all fonts in a part of a figure, and those that the markup of its texts states."""
    if isinstance(part, str):
        return [float(size) for size in re.findall(r"font-size:([\d.]+)px", part)]
    if isinstance(part, list):
        return [size for entry in part for size in sizes(entry)]
    if not isinstance(part, dict):
        return []
    own = [
        size
        for name, value in part.items()
        if name.endswith("font") and isinstance(value, dict) and "size" in value and "bdata" not in str(value["size"])
        for size in np.ravel(value["size"])
    ]
    return own + [size for name, value in part.items() if name != "title" for size in sizes(value)]


def test_no_type_of_a_figure_is_smaller_than_18_pixels(open_app: Callable[..., AppTest]) -> None:
    app, small = open_app(present="1"), {}
    for name in (name for names in MENU.values() for name in names):
        for figure in charts(app.switch_page(str(page_path(name))).run()):
            found = [size for part in (figure["data"], figure["layout"]) for size in sizes(part)]
            assert figure["layout"]["font"]["size"] >= SMALLEST_PX
            small |= {name: min(found)} if min(found) < SMALLEST_PX else {}
    assert small == {}
