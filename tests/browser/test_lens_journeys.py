"""Journeys of a visitor through the whole app, from the first screen to a link that another visitor opens."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Page, TimeoutError, expect

from model.trace import file
from tests.browser.conftest import ROOT, Visit, at_rest, wear
from viz.theme import DARK, LIGHT

pytestmark = pytest.mark.browser
PROMPT = "Once upon a time there was a wolf"


def wait_for(page: Page, condition: str) -> None:
    try:
        page.wait_for_function(f"(() => {{ const lens = window.__lens; return lens && ({condition}); }})()")
    except TimeoutError:
        state = "[__lens.tokens, __lens.lens.running, __lens.lens.run?.header, __lens.lens.awaited]"
        state = page.evaluate(f"window.__lens ? JSON.stringify({state}) : 'no lens'")
        pytest.fail(f"in vain: {condition}\n{state}\n{page.locator('.stApp').inner_text()}")


def finished(page: Page) -> None:
    """Wait until a run of this visitor, not the recorded example, has ended and the page shows it."""
    wait_for(page, "lens.lens.run?.header.run > 0 && !lens.lens.run.header.running && !lens.lens.running")
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    at_rest(page)


def tokens(page: Page) -> int:
    return page.evaluate("window.__lens.tokens")


def token_ids(page: Page) -> list[int]:
    return page.evaluate("window.__lens.lens.run.rows.map((_, i) => window.__lens.lens.run.id(i))")


def query(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlparse(page.url).query).items()}


def open_tiny(visit: Visit, app: str, model: str = "tiny", new: int = 12, **window: object) -> Page:
    """Open the app on the tiny model with a link that starts a run."""
    return visit(f"{app}/?model={model}&prompt={PROMPT.replace(' ', '+')}&new={new}", **window)


@pytest.mark.skipif(not list((ROOT / "model/presets/recorded").glob("*.safetensors")), reason="no example is installed")
def test_first_screen_is_a_recorded_run_that_answers_to_the_pointer(visit: Visit, app: str) -> None:
    page = visit(app)
    wait_for(page, "lens.tokens > 1")
    at_rest(page)
    expect(page.get_by_text("recorded", exact=True)).to_be_visible()
    page.locator("#chip-2").hover()
    expect(page.locator(".lens .info")).to_contain_text(re.compile(r"#2 .* L\d+: E\d+ \d\.\d\d"))


def test_generate_shows_every_token_and_the_address_says_what_was_asked(visit: Visit, app: str) -> None:
    page = open_tiny(visit, app)
    finished(page)
    first = token_ids(page)
    page.get_by_role("textbox", name="Prompt").fill("A dark forest")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Generate").click()
    wait_for(page, f"lens.lens.run.id(1) !== {first[1]}")
    finished(page)
    generated = page.evaluate(
        "window.__lens.lens.run.rows.filter((_, i) => window.__lens.lens.run.generated(i)).length"
    )
    assert generated == 12
    expect(page.get_by_text("measured on cpu").first).to_be_visible()
    assert query(page)["prompt"] == "A dark forest"
    strip = page.locator(".strip").inner_text()
    assert "forest" in strip.replace("\n", "").replace(" ", "")


def test_the_lens_stays_where_it_is_through_a_run(visit: Visit, app: str) -> None:
    page = open_tiny(visit, app, new=60)
    finished(page)
    page.evaluate("window.before = window.__lens.lens.find('.lens')")
    page.get_by_role("button", name="Generate").click()
    wait_for(page, "lens.lens.running")
    finished(page)
    assert page.evaluate("window.before === window.__lens.lens.find('.lens')")


def test_a_link_keeps_the_locked_token_and_how_the_lens_looks(visit: Visit, app: str) -> None:
    page = open_tiny(visit, app)
    finished(page)
    page.locator(".strip").focus()
    for key in ("Home", "j", "j", "]"):
        page.keyboard.press(key)
    page.wait_for_function("new URLSearchParams(location.search).get('token') === '2'")
    page.locator("select.colour").select_option("group")
    page.locator("select.map").select_option("layers")
    page.wait_for_function("location.search.includes('colour=group') && location.search.includes('map=layers')")
    chosen = page.evaluate("window.__lens.lens.view")
    assert chosen["token"] == 2
    again = visit(page.url)
    finished(again)
    assert token_ids(again) == token_ids(page)
    wait_for(again, f"lens.lens.view.token === 2 && lens.lens.view.layer === {chosen['layer']}")
    expect(again.locator("#chip-2")).to_have_class(re.compile("locked"))
    wait_for(again, "lens.lens.view.colour === 'group' && lens.lens.view.map === 'layers'")
    expect(again.locator("select.colour")).to_have_value("group")
    again.locator("select.colour").select_option("expert")
    again.wait_for_function("!location.search.includes('colour=') && location.search.includes('map=layers')")


def test_stop_keeps_the_tokens_so_far(visit: Visit, app: str) -> None:
    page = open_tiny(visit, app, model="deep", new=256)
    wait_for(page, "lens.lens.run.header.running && lens.tokens > 20")
    page.get_by_role("button", name="Stop").click()
    finished(page)
    assert 20 < tokens(page) < 250
    expect(page.get_by_text("stopped", exact=True)).to_be_visible()
    kept = token_ids(page)
    page.locator("#chip-1").click()
    page.wait_for_timeout(1000)
    assert token_ids(page) == kept


def test_run_goes_on_when_its_page_is_left_and_stops_from_any_page(visit: Visit, app: str) -> None:
    page = open_tiny(visit, app, model="deep", new=256)
    wait_for(page, "lens.lens.run.header.running && lens.tokens > 12")
    page.get_by_role("link", name="Routing", exact=True).click()
    expect(page.get_by_text(re.compile(r"Your run goes on: \d+ of 256 new tokens"))).to_be_visible()
    left_at = tokens(page)
    page.get_by_role("link", name="Explore", exact=True).click()
    wait_for(page, f"location.pathname === '/' && lens.lens.running && lens.tokens > {left_at}")
    page.get_by_role("link", name="Tokens", exact=True).click()
    page.get_by_role("button", name="Stop", exact=True).dblclick()
    expect(page.get_by_text("stopped", exact=True)).to_be_visible()
    expect(page.get_by_text("Your run goes on")).to_have_count(0)


def test_a_saved_trace_opens_in_another_session(visit: Visit, app: str, tmp_path: Path) -> None:
    page = open_tiny(visit, app)
    finished(page)
    page.get_by_text("Trace file", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save this trace").click()
    saved = tmp_path / "trace.safetensors"
    download.value.save_as(saved)
    trace = file.load(saved)
    assert [token.id for token in trace.tokens] == token_ids(page)

    other = visit(app)
    wait_for(other, "lens.tokens > 1")
    at_rest(other)
    other.get_by_text("Trace file", exact=True).click()
    other.locator("input[type=file]").set_input_files(saved)
    wait_for(other, f"lens.tokens === {trace.num_tokens} && lens.lens.run.id(1) === {trace.tokens[1].id}")
    expect(other.get_by_text("from a file", exact=True)).to_be_visible()


def test_choices_in_the_lens_reach_the_page_and_back(visit: Visit, app: str) -> None:
    page = open_tiny(visit, app)
    finished(page)
    page.locator("select.layer").select_option("3")
    page.wait_for_function("new URLSearchParams(location.search).get('layer') === '3'")
    page.locator("select.layer").select_option("0")  # a dense layer, which the page does not know
    wait_for(page, "lens.lens.talk.open.size > 0")
    wait_for(page, "lens.lens.talk.open.size === 0")
    at_rest(page)
    assert page.evaluate("window.__lens.lens.view.layer") == 0


def test_both_themes_draw_on_their_own_ground(visit: Visit, app: str) -> None:
    page = open_tiny(visit, app, width=1024, height=768, theme="dark")
    finished(page)
    for theme in (DARK, LIGHT):
        wear(page, theme)
        page.locator("#chip-3").hover()
        ground = ",".join(map(str, bytes.fromhex(theme.background[1:])))
        wait_for(page, f"lens.lens.colors.background.join() === '{ground}'")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
