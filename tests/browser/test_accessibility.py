"""Every page for every eye and hand: axe, headings, names, visible keyboard focus, a narrow screen, both themes.

The pages are those of the menu. axe judges no text inside a chart; `tests/viz/test_theme.py` compares the colours of
charts.
"""

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from pages.common.menu import FIRST, MENU, title
from tests.benchmarks.screen import READY
from tests.browser.conftest import Visit, at_rest, wear
from viz.theme import DARK, LIGHT

pytestmark = pytest.mark.browser
NAMES = [name for names in MENU.values() for name in names]
AT_REST = """name => document.querySelector('h1.page-title')?.textContent === name
  && document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'
  && !document.querySelector('[data-testid=stSkeleton]')"""
# Colours change by transitions, in which text passes through colours that nobody reads; what is drawn anew fades.
STILL = """*, *::before, *::after { transition: none !important; animation: none !important; }
  [data-stale=true] { opacity: 1 !important; }"""
# Other rules than contrast hold in both themes or in none.
AXE = """async ([exclude, rules]) => (await axe.run(exclude.length ? { exclude } : document, {
  preload: false, resultTypes: ['violations'], ...(rules.length ? { runOnly: rules } : {}) })).violations
  .filter(fault => ['serious', 'critical'].includes(fault.impact))
  .flatMap(fault => fault.nodes.map(node => `${fault.id}: ${node.html.slice(0, 200)}`))"""
SIDEBAR = "[data-testid=stSidebar]"
UNNAMED = """() => [...document.querySelectorAll('[data-testid=stPlotlyChart], .lens .plot')]
  .filter(chart => !chart.ariaLabel).map(chart => chart.outerHTML.slice(0, 80))"""
SMALL = """() => [...document.querySelectorAll('[data-testid=stMain] :is(p, code, span, bdi, button):not(.katex *)')]
  .filter(e => e.textContent.trim() && e.checkVisibility() && parseFloat(getComputedStyle(e).fontSize) < 12)
  .map(e => e.outerHTML.slice(0, 80))"""
# Elements that take the focus by Tab and look as before, they and the boxes around them. A table on a canvas marks its
# focus within; a chart's numbers are in its table. Some elements change their looks a few frames later.
FOCUS = """async (without) => {
  const TAKE = 'a[href], button, input, select, textarea, summary, [tabindex]', CANVAS = '[data-testid=stDataFrame]';
  const roots = [document, ...[...document.querySelectorAll('*')].flatMap(e => e.shadowRoot ?? [])];
  const shown = e => e.checkVisibility({ checkVisibilityCSS: true }) && e.offsetWidth > 1;
  const left = ['.js-plotly-plot', CANVAS, ...without].join();
  const elements = roots.flatMap(root => [...root.querySelectorAll(TAKE)])
    .filter(e => e.tabIndex >= 0 && !e.disabled && shown(e) && !e.closest(left));
  const up = (e, n) => (n && e ? up(e.parentElement, n - 1) : e);
  const around = e => [e.nextElementSibling, ...[0, 1, 2, 3, 4].map(n => up(e, n))].filter(Boolean);
  const PARTS = ['outlineStyle', 'outlineWidth', 'boxShadow', 'borderColor', 'backgroundColor', 'color'];
  const looks = parts => parts.map(e => { const style = getComputedStyle(e); return PARTS.map(name => style[name]); });
  const looksSame = async (e, frames) => {
    document.activeElement.blur?.();
    for (let n = 0; n < frames; n++) await new Promise(requestAnimationFrame);
    const parts = around(e), before = looks(parts).join();
    e.focus({ preventScroll: true });
    for (let n = 0; n < frames; n++) await new Promise(requestAnimationFrame);
    return e.matches(':focus') && looks(parts).join() === before;
  };
  const unseen = [];
  for (const e of elements) if (await looksSame(e, 0) && await looksSame(e, 3)) unseen.push(e.outerHTML.slice(0, 120));
  return unseen;
}"""
# Elements that reach over the right edge of a phone and scroll in no box of their own.
SIDEWAYS = """async () => {
  const main = document.querySelector('[data-testid=stMain]'), width = document.documentElement.clientWidth;
  const reaches = () => document.documentElement.scrollWidth > width || main.scrollWidth > main.clientWidth;
  for (let n = 0; n < 100 && (n < 10 || reaches()); n++) await new Promise(requestAnimationFrame); // marks move later
  if (!reaches()) return [];
  const beyond = [...main.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > width + 1);
  return beyond.map(e => e.outerHTML.slice(0, 120)).slice(0, 3);
}"""


def go_to(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title(name), exact=True).click()
    page.wait_for_function(AT_REST, arg=title(name))
    at_rest(page)


def judged(page: Page) -> list[str]:
    """Return the serious and critical faults that axe finds on a page as it stands."""
    page.evaluate(AXE_SCRIPT)
    page.add_style_tag(content=STILL)
    at_rest(page)
    return page.evaluate(AXE, [[], []])


def test_no_page_has_a_fault_in_either_theme_or_on_a_phone(visit: Visit, app: str) -> None:
    page, faults = visit(f"{app}?ran=yes&layer=3&token=24&expert=26"), {}
    page.wait_for_function(READY)
    page.evaluate(AXE_SCRIPT)
    page.add_style_tag(content=STILL)
    for number, name in enumerate(NAMES):
        go_to(page, name)
        same = [SIDEBAR] if name != FIRST else []  # the sidebar is judged once
        faults[name, f"theme {number % 2}"] = page.evaluate(AXE, [same, []])
        wear(page, LIGHT if number % 2 else DARK)  # the next page is judged in this theme first
        at_rest(page)  # the figures are drawn anew
        faults[name, f"theme {1 - number % 2}"] = page.evaluate(AXE, [same, ["color-contrast"]])
        faults[name, "charts without a name"] = page.evaluate(UNNAMED)
        faults[name, "letters below 12 px"] = page.evaluate(SMALL)
        faults[name, "headings"] = ["more or fewer than one"] * (page.locator("h1").count() != 1)
        page.keyboard.press("Tab")  # from here on, the browser shows the focus that a script sets
        faults[name, "focus that nobody sees"] = page.evaluate(FOCUS, same)
        page.set_viewport_size({"width": 390, "height": 844})
        faults[name, "sideways"] = page.evaluate(SIDEWAYS)
        page.set_viewport_size({"width": 1280, "height": 900})
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
