"""Text size: chosen in the sidebar, kept in a cookie, and followed by figures."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.common import session
from pages.common.menu import MENU
from pages.frame.look import look
from tests.pages.conftest import charts

PAGE = "pages/observe/expert_load/page.py"


def sent(app: AppTest) -> dict[str, Any]:
    """Return what the switches get from the server."""
    (component,) = [
        element for element in app.get("bidi_component") if element.proto.component_name == "moe_loupe_look"
    ]
    return json.loads(component.proto.json)


def styles(app: AppTest) -> str:
    return " ".join(str(element.proto.body) for element in app.get("html"))


def test_switches_start_at_the_usual_size_and_know_every_page(open_app: Callable[..., AppTest]) -> None:
    app = open_app()
    data = sent(app)
    assert data["text"] == "normal"
    assert data["pages"] == [name for names in MENU.values() for name in names]
    assert "font-size: 15.0px" in styles(app)


def test_larger_text_enlarges_figures(show: Callable[..., AppTest]) -> None:
    usual, large = show(), show(**{"text-size": "large"})
    assert sent(large)["text"] == "large"
    assert "--text-scale: 1.25" in styles(large)
    before, after = (charts(app)[0]["layout"] for app in (usual, large))
    assert after["font"]["size"] == 1.25 * before["font"]["size"]
    assert after["height"] == 1.25 * before["height"]


@pytest.mark.parametrize(("cookie", "scale"), [("largest", 1.5), ("huge", 1.0), (None, 1.0)])
def test_cookie_of_the_browser_sets_the_size_of_the_first_script_run(
    open_app: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, cookie: str | None, scale: float
) -> None:
    cookies = {} if cookie is None else {look.COOKIE: cookie}
    monkeypatch.setattr(type(st.context), "cookies", property(lambda _: cookies))
    assert open_app().session_state[session.TEXT_SCALE] == scale
