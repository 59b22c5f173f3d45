"""How long a visitor waits. `tests/run.py` runs this file alone: other tests beside it would be measured too."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Visit
from tests.browser.test_lens import in_plot, open_lens

pytestmark = pytest.mark.browser


@pytest.fixture
def lens(serve: Callable[[str], str], visit: Visit) -> Page:
    return open_lens(serve, visit)


def test_pointing_is_drawn_within_a_frame(lens: Page) -> None:
    for row in range(16):
        for column in (0, 5, 15):
            lens.mouse.move(*in_plot(lens, "router", column, row))
    lens.mouse.move(*in_plot(lens, "attention", 0, 12))
    milliseconds = sorted(lens.evaluate("window.__lens.hoverMs"))
    assert len(milliseconds) > 10
    assert milliseconds[len(milliseconds) // 2] < 16
