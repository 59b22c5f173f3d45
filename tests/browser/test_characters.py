"""Browser and Python split text into the same characters, so that chips and labels of a text agree."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.viz.characters import CHARACTERS
from viz import tokens

pytestmark = pytest.mark.browser
SCRIPT = (Path(tokens.__file__).parent / "lens" / "text.js").read_text(encoding="utf-8")
CONTINUES = f"""(texts) => {{
  {SCRIPT}
  return texts.map((text) => text.map((bytes, at) => at > 0 && continues(joined(text.slice(0, at).map(
    (part) => new Uint8Array(part))), new Uint8Array(bytes))));
}}"""


def test_the_browser_splits_text_into_the_same_characters(chromium: Browser) -> None:
    page = chromium.new_page()
    codepoints = ["".join(characters) for characters in CHARACTERS]
    sent = [[list(one.encode("utf-8", errors="surrogateescape")) for one in text] for text in codepoints]
    expected = [[at > 0 for one in characters for at in range(len(one))] for characters in CHARACTERS]
    assert page.evaluate(CONTINUES, sent) == expected
    page.close()
