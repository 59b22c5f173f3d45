"""The lens as a visitor uses it: locking, keys, and tokens that arrive during a run."""

import itertools
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visit, wear
from viz.theme import DARK, LIGHT

pytestmark = pytest.mark.browser


@pytest.fixture
def lens(serve: Callable[[str], str], visit: Visit) -> Page:
    return open_lens(serve, visit)


def open_lens(serve: Callable[[str], str], visit: Visit) -> Page:
    page = visit(serve("tests/browser/lens_app.py"))
    wait_for(page, "lens.tokens === 16 && lens.frames > 0")
    return page


def wait_for(page: Page, condition: str, seconds: int = 30) -> None:
    page.wait_for_function(
        f"(() => {{ const lens = window.__lens; return lens && ({condition}); }})()", timeout=1000 * seconds
    )


def chip(page: Page, first: int) -> Locator:
    return page.locator(f"#chip-{first}")


def info(page: Page) -> Locator:
    return page.locator(".lens .info")


def view(page: Page) -> dict:
    return page.evaluate("window.__lens.lens.view")


def in_plot(page: Page, name: str, column: int, row: int) -> tuple[float, float]:
    """Return the position on the page of a cell of the router or attention map, or of a load bar."""
    script = """([name, column, row]) => {
        const { box, rows, columns, dpr } = window.__lens.lens.plots[name];
        const { left, top, width } = box.getBoundingClientRect();
        const x = columns ? (columns.position(column) + columns.extent(column) / 2) / dpr : width / 2;
        return [left + x, top + (rows.position(row) + rows.extent(row) / 2) / dpr];
    }"""
    left, top = page.evaluate(script, [name, column, row])
    return left, top


def test_click_locks_and_tells_the_page_once_then_esc_releases(lens: Page) -> None:
    chip(lens, 3).click()
    expect(chip(lens, 3)).to_have_class(re.compile("locked"))
    expect(lens.get_by_text("reruns 2")).to_be_visible()
    lens.mouse.move(1, 1)
    expect(info(lens)).to_contain_text("#3")
    lens.locator(".strip").focus()
    lens.keyboard.press("Escape")
    expect(info(lens)).to_contain_text("Point at")
    expect(lens.get_by_text("reruns 3")).to_be_visible()
    lens.wait_for_timeout(500)
    expect(lens.get_by_text("reruns 3")).to_be_visible()


def test_click_again_releases_and_part_of_a_character_can_be_locked(lens: Page) -> None:
    box = chip(lens, 4).bounding_box()
    assert box
    place = {"x": box["width"] * 0.9, "y": box["height"] / 2}
    chip(lens, 4).click(position=place)
    expect(info(lens)).to_contain_text('#6 part 3 of 3 of "狼"')
    assert view(lens)["token"] == 6
    chip(lens, 4).click(position=place)
    assert view(lens)["token"] is None


def test_keys_walk_tokens_layers_and_heads(lens: Page) -> None:
    lens.locator(".strip").focus()
    for key, name, value in (
        ("j", "token", 0), ("ArrowRight", "token", 1), ("k", "token", 0), ("End", "token", 15),
        ("]", "layer", 3), ("[", "layer", 2), ("[", "layer", 1), ("}", "head", 1), ("{", "head", 0),
    ):  # fmt: skip
        lens.keyboard.press(key)
        assert view(lens)[name] == value, key
    lens.keyboard.press("[")
    expect(lens.locator("select.layer")).to_have_value("0")
    lens.keyboard.press("?")
    expect(lens.locator(".help")).to_be_visible()
    lens.keyboard.press("Escape")
    expect(lens.locator(".help")).to_be_hidden()


def test_double_click_isolates_an_expert(lens: Page) -> None:
    lens.mouse.dblclick(*in_plot(lens, "load", 0, 5))
    wait_for(lens, "lens.lens.isolated === 5 && lens.lens.view.expert === 5")
    lens.mouse.dblclick(*in_plot(lens, "load", 0, 5))
    wait_for(lens, "lens.lens.isolated === -1")


def test_tokens_join_while_it_runs_and_pointing_does_not_interrupt(lens: Page) -> None:
    measure = "window.__lens.lens.find('.lens').offsetHeight"
    lens.get_by_role("button", name="Generate").click()
    wait_for(lens, "lens.lens.running && lens.tokens > 20 && lens.lens.strip.length > 13")
    height = lens.evaluate(measure)
    chip(lens, 2).click()
    lens.keyboard.press("]")
    wait_for(lens, "lens.lens.running && lens.lens.strip.length > 40")
    assert lens.evaluate(measure) == height
    wait_for(lens, "!lens.lens.running")
    assert lens.evaluate("window.__lens.tokens") == 52
    assert (view(lens)["token"], view(lens)["layer"]) == (2, 3)
    expect(lens.get_by_text("reruns 3")).to_be_visible()
    wait_for(lens, "!lens.lens.find('.strip').classList.contains('growing')")
    assert height - 4 * 30 <= lens.evaluate(measure) <= height  # the strip shrinks to its text, two rows at least


def test_ticks_and_the_final_snapshot_say_the_same(lens: Page) -> None:
    read = """(() => {
        const { run } = window.__lens.lens, token = (i) => [
            run.id(i), run.bits(i), ...run.weights(i, 1), ...run.scores(i, 0), ...run.attention(i, 3, 1)];
        return JSON.stringify(run.rows.slice(0, 40).map((_, i) => token(i)));
    })()"""
    lens.get_by_role("button", name="Generate").click()
    wait_for(lens, "lens.lens.running && lens.tokens > 40 && lens.lens.run.length > 40")
    live = lens.evaluate(read)
    wait_for(lens, "!lens.lens.running")
    assert lens.evaluate(read) == live


def test_stop_keeps_what_there_was(lens: Page) -> None:
    lens.get_by_role("button", name="Generate").click()
    wait_for(lens, "lens.lens.running && lens.tokens > 18")
    lens.get_by_role("button", name="Stop").click()
    wait_for(lens, "!lens.lens.running && lens.tokens === 16")


def test_nothing_is_tiny_or_cut_off(serve: Callable[[str], str], visit: Visit) -> None:
    page = open_lens(serve, visit)
    for width, theme in itertools.product((1280, 1024), (LIGHT, DARK)):
        page.set_viewport_size({"width": width, "height": 900})
        wear(page, theme)
        case = (width, theme.background)
        sizes = page.evaluate(
            "[...window.__lens.lens.root.querySelectorAll('.lens *')]"
            ".filter(e => e.textContent && !e.closest('[hidden]')).map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(sizes) >= 12, case
        strip = page.evaluate("getComputedStyle(window.__lens.lens.find('.strip')).fontSize")
        assert strip == ("18px" if width == 1024 else "15px"), case
        assert page.evaluate(
            "(() => { const box = window.__lens.lens.find('.lens'); return box.scrollWidth <= box.clientWidth; })()"
        ), case
        wait_for(page, f"(lens.lens.colors.background[0] < 128) === {str(theme is DARK).lower()}")
