"""The tabs, opened by the address."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.run.request import RunRequest
from pages.common.menu import page_path
from pages.intervene.compare import tabs
from pages.intervene.compare.tabs import NUMBERS, ONE, ROLLOUT, TOKENS

OpenApp = Callable[..., AppTest]

PAGE = page_path("compare")


@pytest.mark.parametrize("part", tabs.TABS)
def test_tabs_are_mirrored_in_the_address(
    show_at: OpenApp, asked: list[tuple[Path, str, RunRequest]], part: str
) -> None:
    app = show_at(part=part, token="6", layer="2")
    assert not app.exception
    assert app.number_input(key="token").value == 6
    assert app.selectbox(key="layer").value == 2
    table = app.dataframe[-1].value
    if part == TOKENS:
        assert table["token"].tolist() == [6]
        assert table["splits first in"].tolist() == ["L2"]
    elif part == NUMBERS:
        assert table["B - A (nat)"].tolist()[6] == pytest.approx(-0.5)
    elif part == ONE:
        assert table["layer"].tolist() == [1, 2]
        assert table["only A"].tolist()[0] == ""
        assert table["only A"].tolist()[1].startswith("E")
    elif part == ROLLOUT:
        values = dict(zip(table["figure"], table["value"], strict=True))
        assert values["split-share"] == pytest.approx(1 / 28)
        assert values["k1"] == pytest.approx(0.5 / 9)  # of the nine generated tokens, one lost half a nat
    else:
        assert table["equal sets"].tolist() == pytest.approx([1, 13 / 14])
        assert table["Jaccard by chance"].notna().all()
