"""The Sparse attention page as a visitor uses it: clicks on a row and a cell, and the slider of kept keys."""

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, click_point

pytestmark = pytest.mark.browser

TEXT = "A sparse model reads few of the tokens that came before it, and which ones is chosen anew for every token."


@pytest.fixture
def page(visit: Visit, app: str) -> Page:
    opened = visit(f"{app}/sparse_attention?model=mini-v32&new=0&temp=0&prompt={quote(TEXT * 3)}")
    expect(opened.get_by_text(re.compile(r"Token \d+ keeps"))).to_be_visible(timeout=60_000)
    opened.locator(".st-key-sparse-map .nsewdrag").first.wait_for()
    return opened


def click(page: Page, key: str, *cells: int) -> None:
    page.locator(f".st-key-{key}").scroll_into_view_if_needed()
    click_point(page, f".st-key-{key} .js-plotly-plot", *cells)


def test_clicks_slider_and_tabs_show_a_token_fewer_keys_a_head_and_the_cost(page: Page) -> None:
    """One visit for all steps, because the run of mini-v32 before them takes longest."""
    click(page, "sparse-map", 60)
    expect(page.get_by_text(re.compile("Token 60 keeps 48 of 61 keys"))).to_be_visible()
    page.wait_for_function("new URLSearchParams(location.search).get('token') === '60'")
    page.locator(".st-key-kept input").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text(re.compile("Token 60 keeps 47 of 61 keys"))).to_be_visible()
    page.get_by_role("tab", name="All layers").click()
    page.locator(".st-key-sparse-layers .nsewdrag").first.wait_for()
    click(page, "sparse-layers", 4, 2)
    page.wait_for_function("new URLSearchParams(location.search).get('layer') === '4'")
    page.wait_for_function("new URLSearchParams(location.search).get('head') === '2'")
    page.get_by_role("tab", name="Cost").click()
    expect(page.locator(".st-key-sparse-cost .legend").get_by_text("attention, selected keys")).to_be_visible()
