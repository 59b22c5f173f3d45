"""The Expert load and Tokens pages as a visitor uses them."""

from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, click_point, wear
from viz.theme import DARK, LIGHT

pytestmark = pytest.mark.browser
HOSTILE = "<script>alert(1)</script>\n<｜begin▁of▁sentence｜> n\u0303 שלום \u202e abc"


def open_page(visit: Visit, app: str, name: str, prompt: str, **window: object) -> Page:
    page = visit(f"{app}/{name}?model=tiny&new=8&prompt={quote(prompt)}", **window)
    expect(page.get_by_text("measured on cpu").first).to_be_visible()
    return page


def test_click_on_a_cell_chooses_its_layer_and_expert(visit: Visit, app: str) -> None:
    page = open_page(visit, app, "expert_load", "Once upon a time there was a wolf")
    click_point(page, ".js-plotly-plot", 4, 15)
    page.wait_for_function("location.search.includes('expert=15') && location.search.includes('layer=4')")


def test_text_of_any_kind_is_shown_as_text_in_both_themes(visit: Visit, app: str) -> None:
    dialogs: list[str] = []
    page = open_page(visit, app, "tokens", HOSTILE, theme="dark")
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    strip = page.locator(".boundaries").first
    for theme in (DARK, LIGHT):
        wear(page, theme)
        expect(strip).to_be_visible()
        shown = strip.inner_text().replace("\n", "")
        assert "<script>alert(1)</script>⏎<｜begin▁of▁sentence｜>·n\u0303·שלום·\\u202e·abc" in shown
        assert strip.locator("script").count() == 0
        expect(strip.locator(".chip.special").first).to_be_visible()
        assert strip.locator(".chip.lookalike").count() > 1
    assert dialogs == []


def test_every_chip_of_a_hebrew_text_keeps_its_place(visit: Visit, app: str) -> None:
    page = open_page(visit, app, "tokens", "אב")
    chips = page.locator(".boundaries").first.locator(".chip")
    expect(chips.nth(2)).to_be_visible()
    assert chips.nth(1).bounding_box()["x"] < chips.nth(2).bounding_box()["x"]


@pytest.mark.parametrize("name", ["expert_load", "tokens"])
def test_nothing_is_cut_at_any_width(visit: Visit, app: str, name: str) -> None:
    page = open_page(visit, app, name, "Once upon a time there was a wolf", width=1024)
    for width in (1024, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(1500)  # figures follow the window's width after a pause
        page.wait_for_function("document.querySelector('[data-testid=stMain]').scrollWidth <= innerWidth")
