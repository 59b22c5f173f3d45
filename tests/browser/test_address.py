"""The address: the Back button, and links from any page."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, at_rest
from tests.browser.test_lens_journeys import finished, open_tiny, query, tokens, wait_for

pytestmark = pytest.mark.browser
CHOSEN = {"token": "3", "layer": "2", "expert": "5", "head": "1"}
COUNTED = {"tokens": "prompt", "special": "false"}


def follow(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    shows(page, "/" if name == "Explore" else f"/{name.lower()}")


def shows(page: Page, path: str) -> None:
    """Wait until the page with this path is open, drawn and at rest."""
    title = path[1:].capitalize() or "Explore"
    page.wait_for_function("wanted => location.pathname + document.title.split(' ')[0] === wanted", arg=path + title)
    at_rest(page)


def entries(page: Page) -> int:
    return page.evaluate("history.length")


def test_back_goes_from_page_to_page_and_keeps_the_view(visit: Visit, app: str) -> None:
    page = open_tiny(visit, app)
    finished(page)
    wait_for(page, "lens.lens.view.layer !== null")
    page.evaluate("([chosen]) => window.__lens.lens.set(chosen)", [{name: int(CHOSEN[name]) for name in CHOSEN}])
    page.wait_for_function("location.search.includes('token=3') && location.search.includes('expert=5')")
    at_rest(page)
    first = entries(page)
    for number, name in enumerate(("Routing", "Tokens", "Architecture"), 1):
        follow(page, name)
        assert entries(page) == first + number
        assert CHOSEN.items() <= query(page).items()
    for path in ("/tokens", "/routing", "/"):
        page.go_back()
        shows(page, path)
        assert CHOSEN.items() <= query(page).items()
    page.wait_for_function("new URLSearchParams(location.search).has('prompt')")
    assert page.get_by_role("textbox", name="Prompt").input_value() == query(page)["prompt"]
    page.locator(".strip").focus()
    for key in "jjj":
        page.keyboard.press(key)
        page.wait_for_timeout(400)
    page.wait_for_function("location.search.includes('token=6')")
    assert entries(page) == first + 3


def test_link_from_a_page_without_the_choices_restores_them(visit: Visit, app: str) -> None:
    address = "&".join(f"{name}={value}" for name, value in (CHOSEN | COUNTED).items())
    page = visit(f"{app}/tokens?model=tiny&prompt=Once+upon+a+time&new=4&{address}")
    page.get_by_role("link", name="Routing", exact=True).wait_for()
    at_rest(page)
    follow(page, "Routing")
    assert (CHOSEN | COUNTED).items() <= query(page).items()
    assert page.get_by_role("spinbutton", name="Token").input_value() == CHOSEN["token"]


def test_reload_keeps_the_run_of_a_long_prompt_and_a_copied_link_leaves_its_key_out(visit: Visit, app: str) -> None:
    page = open_tiny(visit, app)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    finished(page)
    page.get_by_role("textbox", name="Prompt").fill("Once upon a time there was a wolf in the dark forest. " * 40)
    page.get_by_role("button", name="Generate").click()
    wait_for(page, "lens.tokens > 300")
    finished(page)
    page.wait_for_function("location.search.includes('session=') && !location.search.includes('prompt=')")
    at_rest(page)
    shown, address, first = tokens(page), page.url, entries(page)
    page.reload()
    wait_for(page, f"lens.tokens === {shown} && !lens.lens.running")
    assert (page.url, entries(page)) == (address, first)
    page.get_by_role("button", name="Copy link without this run").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "model=tiny" in copied
    assert "session=" not in copied
    follow(page, "Routing")
    page.reload()
    expect(page.get_by_role("spinbutton", name="Token")).to_have_attribute("max", str(shown - 1))
