"""The lens as a visitor uses it: pointing, locking, keys, and tokens that arrive during a run."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser


@pytest.fixture
def lens(serve: Callable[[str], str], visit: Visit) -> Page:
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


def test_a_character_of_several_tokens_is_one_chip_and_text_stays_text(lens: Page) -> None:
    expect(chip(lens, 0)).to_have_text("bos")
    expect(chip(lens, 3)).to_have_text("·wolf")
    expect(chip(lens, 4)).to_have_text("狼")
    expect(chip(lens, 4).locator(".bands b")).to_have_count(3)
    expect(chip(lens, 7)).to_have_text("·n\u0303")
    expect(chip(lens, 9)).to_have_text("⏎")
    expect(chip(lens, 10)).to_have_text("→")
    expect(chip(lens, 11)).to_have_text("<b>x</b>␛")
    expect(lens.locator(".chip")).to_have_count(13)
    expect(lens.locator(".chip.generated")).to_have_count(4)


def test_pointing_shows_the_exact_numbers_without_the_server(lens: Page) -> None:
    chip(lens, 3).hover()
    weights = lens.evaluate("(() => { const run = window.__lens.lens.run; return [...run.weights(3, run.moe(2))]; })()")
    experts = lens.evaluate("(() => { const run = window.__lens.lens.run; return [...run.experts(3, run.moe(2))]; })()")
    expected = "  ".join(f"E{expert} {weight:.2f}" for expert, weight in zip(experts, weights, strict=True))
    wait_for(lens, f"lens.lens.find('.info').textContent.includes('L2: {expected}')")
    expect(info(lens)).to_contain_text('#3 " wolf"')
    assert sum(weights) == pytest.approx(2.5, rel=1e-4)
    expect(lens.get_by_text("reruns 1")).to_be_visible()


BESIDE_A_SHORT_BAR = """() => {
    const { load: plot } = window.__lens.lens.plots, { rows } = plot;
    const expert = plot.load.findIndex((ratio) => ratio < 1.1);
    const y = rows.position(expert) + Math.floor(rows.extent(expert) / 2);
    const alpha = (ratio) => plot.base.getContext('2d').getImageData(Math.round(plot.x(ratio)), y, 1, 1).data[3];
    return [1.3, 1.7].map(alpha);
}"""


def test_band_of_chance_lies_behind_the_bars_of_the_whole_run(lens: Page) -> None:
    inside, outside = lens.evaluate(BESIDE_A_SHORT_BAR)
    assert 0 < inside < 100
    assert outside == 0
    lens.evaluate("window.__lens.lens.play()")
    wait_for(lens, "lens.lens.shown !== null && lens.lens.shown < 16 && !lens.lens.stale")
    assert lens.evaluate(f"window.__lens.lens.shown < 16 ? ({BESIDE_A_SHORT_BAR})() : [0, 0]") == [0, 0]


def test_pointing_at_a_map_marks_the_token_and_what_it_looks_at(lens: Page) -> None:
    lens.mouse.move(*in_plot(lens, "attention", 2, 8))
    expect(info(lens)).to_contain_text('looks at #2 " a"')
    expect(chip(lens, 7)).to_have_class(re.compile("focus"))
    lens.mouse.move(*in_plot(lens, "router", 5, 3))
    expect(info(lens)).to_contain_text("E5 affinity")
    lens.mouse.move(*in_plot(lens, "load", 0, 5))
    expect(info(lens)).to_contain_text("L2E5: took")
    experts = lens.evaluate("window.__lens.lens.run.rows.map((_, i) => [...window.__lens.lens.run.experts(i, 1)])")
    took = sum(5 in chosen for chosen in experts)
    expect(info(lens)).to_contain_text(f"took {took} of 16 tokens")


def test_load_is_counted_from_the_ids_and_averages_to_one(lens: Page) -> None:
    load = lens.evaluate("[...window.__lens.lens.plots.load.load]")
    assert sum(load) / len(load) == pytest.approx(1)
    counts = [round(ratio * 16 * 2 / 16, 6) for ratio in load]
    assert counts == [round(count) for count in counts]


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


def test_everything_is_reached_by_tab_with_a_name(lens: Page) -> None:
    lens.locator(".strip").focus()
    names = ["Tokens"]
    while names[-1]:
        lens.keyboard.press("Tab")
        names.append(lens.evaluate("window.__lens.lens.root.activeElement?.getAttribute('aria-label') ?? ''"))
    wanted = (
        "Previous layer",
        "Next head",
        "Colour tokens by",
        "Replay",
        "Save the router map",
        "Router map",
        "Attention map",
        "Load of each",
    )
    assert [name for name in wanted if not any(have.startswith(name) for have in names)] == []


def test_double_click_isolates_an_expert(lens: Page) -> None:
    lens.mouse.dblclick(*in_plot(lens, "load", 0, 5))
    wait_for(lens, "lens.lens.isolated === 5 && lens.lens.view.expert === 5")
    lens.mouse.dblclick(*in_plot(lens, "load", 0, 5))
    wait_for(lens, "lens.lens.isolated === -1")


def test_replay_shows_the_run_again(lens: Page) -> None:
    lens.locator(".strip").focus()
    lens.keyboard.press(" ")
    wait_for(lens, "lens.lens.shown >= 13")
    expect(lens.locator(".lens .count")).to_have_text(re.compile(r"n = 1[2345] tokens"))
    wait_for(lens, "lens.lens.shown === null")
    expect(lens.locator(".lens .count")).to_have_text("n = 16 tokens")


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


@pytest.mark.parametrize("picture", ["svg", "png"])
def test_maps_are_saved_for_print_with_what_they_show(lens: Page, tmp_path: Path, picture: str) -> None:
    lens.evaluate(
        "saved => { window.__lens.lens.saved = saved; }", {"note": "m · <b>", "file": "m-b", "picture": picture}
    )
    for name in ("router", "attention", "load"):
        with lens.expect_download() as download:
            lens.locator(f"figure.{name} [data-do=save]").click()
        assert re.fullmatch(rf"m-b-{name}-L2-20\d\d-\d\d-\d\d\.{picture}", download.value.suggested_filename)
        download.value.save_as(tmp_path / "picture")
        content = (tmp_path / "picture").read_bytes()
        if picture == "png":
            assert content.startswith(b"\x89PNG")
            assert int.from_bytes(content[16:20], "big") == 1920  # dots on 170 mm
        else:
            drawing = ElementTree.fromstring(content)
            assert drawing.get("width") == "170mm"
            words = [text.text or "" for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
            assert any(re.fullmatch(r"m · <b> · layer 2 · 20\d\d-\d\d-\d\d", line) for line in words)
            assert len(content) > 3000


def test_pointing_is_drawn_within_a_frame(lens: Page) -> None:
    for row in range(16):
        for column in (0, 5, 15):
            lens.mouse.move(*in_plot(lens, "router", column, row))
    lens.mouse.move(*in_plot(lens, "attention", 0, 12))
    milliseconds = sorted(lens.evaluate("window.__lens.hoverMs"))
    assert len(milliseconds) > 10
    assert milliseconds[len(milliseconds) // 2] < 16


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1024])
def test_nothing_is_tiny_or_cut_off(serve: Callable[[str], str], visit: Visit, theme: str, width: int) -> None:
    page = visit(serve("tests/browser/lens_app.py"), width=width, theme=theme)
    wait_for(page, "lens.tokens === 16 && lens.frames > 0")
    sizes = page.evaluate(
        "[...window.__lens.lens.root.querySelectorAll('.lens *')].filter(e => e.textContent && !e.closest('[hidden]'))"
        ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 12
    strip = page.evaluate("getComputedStyle(window.__lens.lens.find('.strip')).fontSize")
    assert strip == ("18px" if width == 1024 else "15px")
    assert page.evaluate(
        "(() => { const box = window.__lens.lens.find('.lens'); return box.scrollWidth <= box.clientWidth; })()"
    )
    background = page.evaluate("window.__lens.lens.colors.background[0]")
    assert (background < 128) == (theme == "dark")
