"""The lens while a visitor points, walks by Tab, replays the run and saves maps: nothing asks the server."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.test_lens import chip, in_plot, info, open_lens, wait_for

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def window(serve: Callable[[str], str], shared_visit: Visit) -> Page:
    return open_lens(serve, shared_visit)


@pytest.fixture
def lens(window: Page) -> Page:
    """Return the window that all tests of this module share, at rest and with the pointer beside the lens."""
    window.mouse.move(1, 1)
    wait_for(window, "lens.lens.shown === null && !lens.lens.stale")
    return window


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
    lens.evaluate("(lens => { lens.play(); clearInterval(lens.timer); })(window.__lens.lens)")
    wait_for(lens, "lens.lens.shown < 16 && !lens.lens.stale")
    assert lens.evaluate(BESIDE_A_SHORT_BAR) == [0, 0]
    lens.evaluate("(lens => { lens.halt(); lens.repaint(); })(window.__lens.lens)")


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


def test_replay_shows_the_run_again(lens: Page) -> None:
    lens.locator(".strip").focus()
    lens.evaluate("""(count => { window.counts = [];
      new MutationObserver(() => window.counts.push(count.textContent)).observe(count, { childList: true });
    })(window.__lens.lens.find('.count'))""")
    lens.keyboard.press(" ")
    lens.wait_for_function("window.counts.at(-1) === 'n = 16 tokens'")
    wait_for(lens, "lens.lens.shown === null")
    assert re.search(r"n = 1[2345] tokens", lens.evaluate("window.counts.join()"))


def test_replay_goes_a_token_per_press_where_the_system_asks_for_less_motion(lens: Page) -> None:
    lens.emulate_media(reduced_motion="reduce")
    lens.locator(".strip").focus()
    shown = []
    for _ in range(5):
        lens.keyboard.press(" ")
        lens.wait_for_timeout(150)
        shown.append(lens.evaluate("window.__lens.lens.shown"))
    lens.emulate_media(reduced_motion="no-preference")
    assert shown == [12, 13, 14, 15, None]


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
