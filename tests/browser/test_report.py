"""The report as a reader uses it: saved in the sidebar, opened without a network, in the dark, on a phone, on paper."""

from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Visit, at_rest

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=alert(1)> שלום \u202e wolf"


def test_a_saved_report_opens_without_a_network(visit: Visit, app: str, chromium: Browser, tmp_path: Path) -> None:
    page = visit(f"{app}/tokens?model=tiny&new=8&token=3&prompt={quote(HOSTILE)}")
    expect(page.get_by_text("measured on cpu").first).to_be_visible()
    at_rest(page)  # a script that draws the sidebar anew would fold it again
    page.locator("summary", has_text="Report").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save a report").click()
    path = tmp_path / "report.html"
    download.value.save_as(path)

    events: list[str] = []
    context = chromium.new_context(color_scheme="dark", viewport={"width": 390, "height": 800}, offline=True)
    reader = context.new_page()
    reader.on("dialog", lambda dialog: events.append(dialog.message))
    reader.on("console", lambda message: events.append(message.text))
    reader.on("request", lambda request: events.append(request.url))
    reader.goto(path.as_uri())
    expect(reader.get_by_role("heading", name="One token: 3")).to_be_visible()
    assert [event for event in events if not event.startswith(("data:image/png", path.as_uri()))] == []
    assert reader.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 17, 23)"
    assert reader.evaluate("document.documentElement.scrollWidth") == 390
    assert reader.evaluate("[...document.images, ...document.querySelectorAll('script')].length") == 0
    assert len(reader.pdf(prefer_css_page_size=True)) > 20_000
    context.close()
