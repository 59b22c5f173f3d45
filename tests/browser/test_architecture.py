"""The Architecture page as a visitor uses it, by mouse and by keyboard."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, click_point

pytestmark = pytest.mark.browser


@pytest.fixture
def page(visit: Visit, app: str) -> Page:
    opened = visit(f"{app}/architecture?of=DeepSeek-V3.2")
    expect(opened.get_by_text("671,877,944,064")).to_be_visible()
    opened.locator(".nsewdrag").first.wait_for()
    return opened


def click(page: Page, key: str, expert: int = -1) -> None:
    click_point(page, ".js-plotly-plot", key, None, expert)


def test_click_on_a_part_and_the_list_from_the_keyboard_describe_it(page: Page) -> None:
    click(page, "moe-indexer")
    expect(page.get_by_text("Lightning indexer", exact=True)).to_be_visible()
    page.wait_for_function("new URLSearchParams(location.search).get('part') === 'moe indexer'")
    click(page, "head")
    expect(page.get_by_text("Output head", exact=True)).to_be_visible()

    page.locator(".st-key-part input").focus()
    page.keyboard.type("mtp")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Multi-token prediction", exact=True).first).to_be_visible()
    page.wait_for_function("new URLSearchParams(location.search).get('part') === 'mtp'")
