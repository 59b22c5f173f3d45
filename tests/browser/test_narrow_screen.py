"""A phone, and a window without the menu: neither menu nor header covers the page."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, at_rest

pytestmark = pytest.mark.browser
FREE = """() => {
  const question = document.querySelector('[data-testid=stMain] [data-testid=stMarkdown]:has(p)');
  const header = document.querySelector('[data-testid=stHeader]');
  return question && header.getBoundingClientRect().bottom <= question.getBoundingClientRect().top;
}"""


def header_leaves_the_question_free(page: Page) -> None:
    """Wait until the header ends above the question. At first, and while the window changes, neither has its place."""
    page.wait_for_function(FREE)


def test_menu_of_a_phone_is_closed_at_first_and_after_a_choice(visit: Visit, app: str) -> None:
    page = visit(f"{app}/tokens", width=390, height=844)
    opener = page.get_by_test_id("stExpandSidebarButton")
    expect(opener).to_be_visible()
    at_rest(page)
    header_leaves_the_question_free(page)
    opener.click()
    page.get_by_role("link", name="Routing", exact=True).click()
    expect(page.get_by_text("Why did this token go to these experts?")).to_be_visible()
    expect(opener).to_be_visible()
    header_leaves_the_question_free(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_header_does_not_cover_the_question_without_the_menu(visit: Visit, app: str) -> None:
    page = visit(f"{app}/tokens", width=1024)
    expect(page.get_by_test_id("stSidebar")).to_be_visible()
    at_rest(page)
    page.get_by_test_id("stSidebar").hover()
    page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").click()
    expect(page.get_by_test_id("stExpandSidebarButton")).to_be_visible()
    for width in (1024, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(500)
        header_leaves_the_question_free(page)
