"""The first visit to a server, by a link to a page, shows the page without a "Page not found" notice."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit, start_server

pytestmark = pytest.mark.browser


def test_first_deep_link_shows_its_page_and_nothing_over_it(visit: Visit, tmp_path: Path) -> None:
    process, address = start_server("app.py", {}, tmp_path / "log.txt")
    try:
        page = visit(f"{address}/architecture?of=DeepSeek-V3.2")
        expect(page.get_by_text("671,877,944,064")).to_be_visible(timeout=60_000)
        expect(page.get_by_text("Page not found")).to_have_count(0)
        page.get_by_role("tab", name="V3 beside V3.2").click()
        page.wait_for_function("new URLSearchParams(location.search).get('table') === 'V3 beside V3.2'")
        expect(page.get_by_text("Page not found")).to_have_count(0)
    finally:
        process.terminate()
        process.wait(10)
