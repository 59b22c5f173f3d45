"""axe-core finds no fault on any page, in both themes: contrast, headings, names, and visible keyboard focus.

axe judges no text inside a chart; `tests/viz/test_theme.py` compares the colours of charts.
"""

from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from pages.common.menu import FIRST, MENU, title
from tests.benchmarks.screen import READY
from tests.browser.conftest import Visit, at_rest, wear
from viz.theme import DARK, LIGHT

pytestmark = pytest.mark.browser
# Faults that Streamlit writes itself: a rule of axe -> a mark in the HTML of its element.
STREAMLIT = {
    "list": "stSidebarNavItems",  # the menu puts a `div` between `ul` and `li`
    "listitem": "<li class=",  # the same for each of its items; no page of ours has a list
    "presentation-role-conflict": "stFileUploaderDropzone",  # the upload field has a name, but no role
    "scrollable-region-focusable": "katex-display",  # a formula wider than its column
}
AT_REST = """name => document.querySelector('h1')?.textContent === name
  && document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'
  && !document.querySelector('[data-testid=stSkeleton]')"""
# Colours change by transitions, in which text passes through colours that nobody reads.
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
RUN = """async ([exclude, rules]) => (await axe.run({ exclude }, {
  preload: false, resultTypes: ['violations'], ...(rules.length ? { runOnly: rules } : {}) })).violations"""
CHARTS, TABLES, SIDEBAR = ".js-plotly-plot", "[data-testid=stDataFrame]", "[data-testid=stSidebar]"
UNNAMED = """() => [...document.querySelectorAll('[data-testid=stPlotlyChart], .lens .plot')]
  .filter(chart => !chart.ariaLabel).length"""
SMALL = """() => [...document.querySelectorAll('[data-testid=stMain] :is(p, code, span, bdi, button):not(.katex *)')]
  .filter(e => e.textContent.trim() && e.checkVisibility() && parseFloat(getComputedStyle(e).fontSize) < 12)
  .map(e => e.outerHTML.slice(0, 80))"""


def violations(page: Page, exclude: list[str], *rules: str) -> list[tuple[str, str]]:
    """Return the faults that axe finds, as (rule, HTML of the element), without those of Streamlit's own elements."""
    found: list[Any] = page.evaluate(RUN, [exclude, list(rules)])
    pairs = [(fault["id"], node["html"][:200]) for fault in found for node in fault["nodes"]]
    return [(rule, html) for rule, html in pairs if STREAMLIT.get(rule, "not ours") not in html]


def test_axe_finds_no_fault_of_ours_on_any_page_in_either_theme(visit: Visit, app: str) -> None:
    page, faults = visit(f"{app}?ran=yes&layer=3&token=24&expert=26"), {}
    page.wait_for_function(READY)
    page.evaluate(AXE_SCRIPT)
    page.add_style_tag(content=STILL)
    menu = page.get_by_test_id("stSidebarNav")
    for name in (name for names in MENU.values() for name in names):
        menu.get_by_role("link", name=title(name), exact=True).click()
        page.wait_for_function(AT_REST, arg=title(name))
        page.wait_for_timeout(500)
        same = [CHARTS, SIDEBAR] if name != FIRST else [CHARTS]  # the sidebar is judged once
        faults[name, "light"] = violations(page, same)
        wear(page, DARK)
        faults[name, "dark"] = violations(page, [*same, TABLES], "color-contrast")
        wear(page, LIGHT)
        faults[name, "charts without a name"] = page.evaluate(UNNAMED)
        faults[name, "letters below 12 px"] = page.evaluate(SMALL)
        faults[name, "headings"] = page.locator("h1").count() - 1
    assert {where: found for where, found in faults.items() if found} == {}


def test_keyboard_focus_is_visible_in_the_menu(visit: Visit, app: str) -> None:
    page = visit(f"{app}/imports")
    link = page.get_by_test_id("stSidebarNav").get_by_role("link", name=title(FIRST), exact=True)
    expect(link).to_be_visible()
    at_rest(page)
    link.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    expect(link).to_be_focused()
    expect(link).to_have_css("outline-style", "solid")  # the menu appears before the page's styles
    assert link.evaluate("e => parseFloat(getComputedStyle(e).outlineWidth)") >= 2
