"""The lens as a visitor uses it: locking, keys, and tokens that arrive during a run."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visit, at_rest, wear
from viz.theme import DARK, LIGHT

pytestmark = pytest.mark.browser


@pytest.fixture
def lens(serve: Callable[[str], str], visit: Visit) -> Page:
    return open_lens(serve, visit)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Return the file that a run of the lens waits for: it cannot end before a slow machine looks at it."""
    return tmp_path / "gate"


@pytest.fixture
def held(serve: Callable[[str], str], visit: Visit, gate: Path) -> Page:
    """Open the lens with a run that waits for the gate."""
    return open_lens(serve, visit, f"?gate={gate}")


def open_lens(serve: Callable[[str], str], visit: Visit, query: str = "") -> Page:
    page = visit(serve("tests/browser/lens_app.py") + query)
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
    at_rest(lens)
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


def test_tokens_join_while_it_runs_and_choices_wait_for_its_end(held: Page, gate: Path) -> None:
    measure = "window.__lens.lens.find('.lens').offsetHeight"
    held.get_by_role("button", name="Generate").click()
    wait_for(held, "lens.lens.running && lens.tokens > 20 && lens.lens.strip.length > 13")
    height = held.evaluate(measure)
    chip(held, 2).click()
    held.keyboard.press("]")
    wait_for(held, "lens.lens.running && lens.lens.strip.length === 32")
    assert held.evaluate(measure) == height
    held.wait_for_timeout(400)  # a choice is reported after 200 ms
    assert held.evaluate("window.__lens.lens.running")
    gate.touch()
    wait_for(held, "!lens.lens.running")
    assert held.evaluate("window.__lens.tokens") == 52
    assert (view(held)["token"], view(held)["layer"]) == (2, 3)
    expect(held.get_by_text("reruns 4")).to_be_visible()  # after the run, the page hears of both choices
    for choice in ('"layer":3', '"token":2'):
        expect(held.get_by_test_id("stJson")).to_contain_text(choice)
    wait_for(held, "!lens.lens.find('.strip').classList.contains('growing')")
    assert height - 4 * 30 <= held.evaluate(measure) <= height  # the strip shrinks to its text, two rows at least


def test_ticks_and_the_final_snapshot_say_the_same(held: Page, gate: Path) -> None:
    read = """(() => {
        const { run } = window.__lens.lens, token = (i) => [
            run.id(i), run.bits(i), ...run.weights(i, 1), ...run.scores(i, 0), ...run.attention(i, 3, 1)];
        return JSON.stringify(run.rows.slice(0, 32).map((_, i) => token(i)));
    })()"""
    held.get_by_role("button", name="Generate").click()
    wait_for(held, "lens.lens.running && lens.tokens === 32")
    live = held.evaluate(read)
    gate.touch()
    wait_for(held, "!lens.lens.running && lens.tokens === 52")
    assert held.evaluate(read) == live


def test_stop_keeps_what_there_was(held: Page, gate: Path) -> None:
    held.get_by_role("button", name="Generate").click()
    wait_for(held, "lens.lens.running && lens.tokens > 18")
    held.get_by_role("button", name="Stop").click()
    wait_for(held, "!lens.lens.running && lens.tokens === 16")
    gate.touch()


def test_table_twin_says_what_the_maps_show_of_the_layer(lens: Page) -> None:
    """From the keyboard alone, and by the names that a screen reader says."""
    lens.locator(".twin summary").focus()
    lens.keyboard.press("Enter")
    table = lens.get_by_role("table")
    row = table.get_by_role("row").nth(1 + 3)
    expect(table.get_by_role("columnheader")).to_have_text(
        ["Number", "Token", "Expert 1 and its weight", "Expert 2 and its weight"]
    )
    read = "moe => { const { run } = window.__lens.lens; return [[...run.experts(3, moe)], [...run.weights(3, moe)]]; }"
    for key, layer in (("", 2), ("]", 3)):
        lens.locator(".strip").focus()
        lens.keyboard.press(key or "Home")
        for _ in range(3 * (not key)):
            lens.keyboard.press("j")
        expect(lens.get_by_role("table", name=f"Layer {layer}: each token's experts")).to_be_visible()
        experts, weights = lens.evaluate(read, layer - 1)
        pairs = [f"E{expert} {weight:.2f}" for expert, weight in zip(experts, weights, strict=True)]
        expect(row.locator("th, td")).to_have_text(["3", '" wolf"', *pairs])
        expect(row).to_have_attribute("aria-current", "true")
    expect(table.locator("[aria-current]")).to_have_count(1)
    expect(table.get_by_role("cell", name="bytes e7", exact=True)).to_be_visible()
    lens.keyboard.press("[")
    lens.keyboard.press("[")
    lens.keyboard.press("[")
    expect(lens.get_by_role("table", name="Layer 0 is dense: it has no experts.")).to_be_visible()


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
