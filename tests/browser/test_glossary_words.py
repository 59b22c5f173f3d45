"""The first use of a word of the glossary shows its meaning on hover and by keyboard; formulas are drawn."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit, at_rest, wear
from viz.theme import DARK

pytestmark = pytest.mark.browser

# Where the words of the page's question stand, by their text, which a mark must not move.
WORDS = """() => {
  const line = document.querySelector('[data-testid="stMain"] [data-testid="stMarkdownContainer"] p');
  const range = document.createRange();
  range.selectNodeContents(line.firstChild);
  const { left, top, width, height } = range.getBoundingClientRect();
  return [left, top, width, height, line.innerText];
}"""
CONTRAST = "tip => [getComputedStyle(tip).color, getComputedStyle(tip).backgroundColor]"


def test_a_word_is_explained_on_hover_and_by_keyboard_on_a_phone(visit: Visit, app: str) -> None:
    page = visit(f"{app}/expert_load", width=390)
    question = page.locator("[data-testid=stMain] p", has_text="Do the experts share the load?").first
    expect(question).to_be_visible()
    mark, tip = page.locator("button.glossary-word[aria-label=experts]"), page.locator(".glossary-meaning")
    expect(mark).to_have_count(1)
    before = page.evaluate(WORDS)
    assert before[-1].strip() == "Do the experts share the load?"
    described = mark.get_attribute("aria-describedby")
    assert page.locator(f"#{described}").text_content() == (
        "One of many small feed-forward networks in a layer; the router sends each token to a few of them."
    )

    mark.hover()
    expect(tip).to_contain_text("expert: One of many small feed-forward networks")
    frame = tip.bounding_box()
    assert frame is not None
    assert frame["x"] >= 0
    assert frame["x"] + frame["width"] <= 390
    page.mouse.move(5, 5)
    expect(tip).to_be_hidden()

    mark.focus()
    expect(tip).to_be_visible()
    page.keyboard.press("Tab")
    expect(tip).to_contain_text("load: The number of tokens that went to an expert.")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "load"
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    assert page.evaluate(WORDS) == before


def test_marks_outlive_reruns_themes_and_pages(visit: Visit, app: str) -> None:
    page = visit(f"{app}/expert_load")
    marks, tip = page.locator("button.glossary-word"), page.locator(".glossary-meaning")
    expect(page.locator("button.glossary-word[aria-label=experts]")).to_have_count(1)
    page.evaluate("document.querySelector('button.glossary-word[aria-label=experts]').dataset.first = 'yes'")
    page.get_by_role("radio", name="prompt").click()
    expect(page.get_by_role("radio", name="prompt")).to_be_checked()
    expect(page.locator("button.glossary-word[data-first=yes]")).to_have_count(1)
    names = [mark.get_attribute("aria-label") for mark in marks.all()]
    assert len(names) == len(set(names)) > 3

    wear(page, DARK)
    page.locator("button.glossary-word[aria-label=experts]").hover()
    expect(tip).to_be_visible()
    color, background = tip.evaluate(CONTRAST)
    assert background == "rgb({}, {}, {})".format(*bytes.fromhex(DARK.background[1:]))
    assert color != background

    page.get_by_role("link", name="Glossary").click()
    expect(page.get_by_text("What does this word mean?")).to_be_visible()
    expect(marks).to_have_count(0)
    for subject in ("Text", "Model", "Load", "Attention", "Prediction", "Experiments", "Routing"):
        page.get_by_role("radio", name=subject, exact=True).click()
        expect(page.get_by_role("radio", name=subject, exact=True)).to_be_checked()
        at_rest(page)
        assert page.locator(".katex-error").count() == 0
    assert page.locator(".katex").count() > 5
