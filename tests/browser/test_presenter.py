"""Presenter mode by its key, controls that a link hides, and the switch of the theme."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.test_accessibility import judged

pytestmark = pytest.mark.browser
DRAWN = "color => [...document.querySelectorAll('.js-plotly-plot')].some(p => p._fullLayout?.paper_bgcolor === color)"


def test_theme_presenter_and_hidden_controls(visit: Visit, app: str) -> None:
    page = visit(f"{app}/expert_load?hide=tabs", width=1024, height=768)
    page.wait_for_function(DRAWN, arg="#ffffff")
    expect(page.get_by_role("tablist")).to_be_hidden()
    page.get_by_label("Dark", exact=True).check(force=True)
    page.wait_for_function(DRAWN, arg="#0e1117")
    page.reload()
    page.wait_for_function(DRAWN, arg="#0e1117")
    page.locator("body").press("p")
    page.wait_for_selector(".st-key-load[data-presented=figure]")
    assert judged(page) == []
    expect(page.get_by_test_id("stSidebar")).to_be_hidden()
    page.locator("body").press("PageDown")
    page.wait_for_selector(".st-key-load-layer[data-presented=figure]")
    page.wait_for_function("location.search.includes('present=1') && location.search.includes('hide=tabs')")
    page.locator("body").press("Escape")
    expect(page.get_by_test_id("stSidebar")).to_be_visible()
