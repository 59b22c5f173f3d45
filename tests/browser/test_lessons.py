"""A lesson in the browser: beside the page, covered until the answer, and remembered by the browser."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visit


def step(page: Page, words: str) -> Locator:
    panel = page.locator(".st-key-lesson")
    expect(panel).to_contain_text(words)
    return panel


def test_student_answers_then_sees_and_comes_back_another_day(visit: Visit, app: str) -> None:
    page = visit(f"{app}/?lesson=3-routing")
    panel = step(page, "Step 1 of 7")
    chart = page.locator(".js-plotly-plot").first
    expect(page.locator(".st-key-lesson-cover")).to_be_visible()
    expect(chart).to_be_attached()
    expect(chart).not_to_be_visible()
    beside, wide = panel.bounding_box(), chart.bounding_box()
    assert beside is not None
    assert wide is not None
    assert beside["x"] >= wide["x"] + wide["width"]
    panel.get_by_text(re.compile("^B. ")).click()
    panel.get_by_role("button", name="Answer").click()
    expect(panel).to_contain_text("Right: B.")
    expect(chart).to_be_visible()
    panel.get_by_role("button", name="Next").click()
    step(page, "Step 2 of 7")
    page.set_viewport_size({"width": 390, "height": 844})
    box = panel.bounding_box()
    assert box is not None
    assert box["width"] <= 390
    expect(page.locator(".st-key-lesson-cover")).to_be_visible()
    page.locator("body").press("p")  # presenter mode, where the lesson fills the screen
    page.wait_for_selector("[data-presented=figure]")
    page.locator("body").press("ArrowDown")
    expect(panel).not_to_be_in_viewport()
    page.locator("body").press("ArrowUp")
    expect(panel).to_be_in_viewport()
    page.goto(re.sub("/routing.*", "/lessons", page.url))
    expect(page.locator(".st-key-lesson-list")).to_contain_text("You are at step 2.")
