"""A visitor runs an experiment on an example, and a link shows another visitor the same result."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.test_lens_journeys import finished, open_tiny, query, wait_for

pytestmark = pytest.mark.browser


def go_to(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
    page.wait_for_url(re.compile(name.lower().replace(" ", "_")))


def answered(page: Page) -> str:
    """Wait until the page shows the verdict of an experiment, and return it."""
    verdict = page.get_by_text("the predictions of the next token moved by")
    expect(verdict).to_be_visible(timeout=120_000)
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_test_id("stAlertContentError")).to_have_count(0)
    return verdict.inner_text()


def test_from_an_example_to_an_experiment_that_a_link_repeats(visit: Visit, app: str) -> None:
    page = open_tiny(visit, app, new=8)
    page.set_default_timeout(120_000)
    finished(page)
    page.get_by_role("button", name="Story").click()
    wait_for(page, "lens.tokens > 60")  # the example is longer than what the link asked for
    finished(page)
    page.locator("#chip-5").click()
    page.wait_for_function("new URLSearchParams(location.search).get('token') === '5'")

    go_to(page, "Routing")
    top = page.locator(".st-key-expert input")
    expect(top).to_have_attribute("placeholder", re.compile(r"\d+"))
    expert = top.get_attribute("placeholder")
    page.wait_for_function("new URLSearchParams(location.search).get('token') === '5'")

    go_to(page, "Counterfactual")
    expect(page.locator(".st-key-expert input")).to_have_attribute("placeholder", str(expert))
    page.get_by_role("button", name="Run", exact=True).click()
    said = answered(page)
    assert re.search(r"other experts of L\d+ were knocked out in turn|There is no control", said)
    expect(page.locator(".effects .chip.chosen")).to_have_count(1)
    strip = page.locator(".effects[role=group]").inner_text()

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link to this view").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")

    other = visit(link)
    assert answered(other) == said
    assert query(other) | {"session": ""} == query(page) | {"session": ""}  # each visitor has a session of its own
    assert other.locator(".effects[role=group]").inner_text() == strip
    expect(other.locator(".st-key-expert input")).to_have_attribute("placeholder", str(expert))
