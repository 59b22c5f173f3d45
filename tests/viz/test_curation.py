"""The figure of kept and dropped bytes."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viz.curation import kept_and_dropped, size
from viz.theme import DARK, LIGHT

ROWS = pd.DataFrame(
    {
        "step": ["normalisation", "quality", "quality"],
        "rule": ["normalisation", "markup", "repetition"],
        "kept": [3_000_000, 2_000_000, 1_999_000],
        "dropped": [0, 1_000_000, 1_000],
        "records": [0, 40, 1],
    }
)


@pytest.mark.parametrize(
    ("num_bytes", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (280_100_000, "280 MB"),
        (12_300_000_000, "12.3 GB"),
    ],
)
def test_sizes_by_hand(num_bytes: int, said: str) -> None:
    assert size(num_bytes) == said


def test_bars_are_the_numbers_and_nothing_dropped_has_no_bar() -> None:
    kept, dropped = kept_and_dropped(ROWS, LIGHT).data
    assert list(kept.x) == [3_000_000, 2_000_000, 1_999_000]
    assert list(dropped.x)[1:] == [1_000_000, 1_000]
    assert pd.isna(dropped.x[0])
    assert list(dropped.y) == ["normalisation", "markup", "repetition"]
    assert list(dropped.text)[1:] == ["1 MB, 40 texts", "1 kB, 1 text"]


def test_first_rule_is_on_top_in_both_themes() -> None:
    for theme in (LIGHT, DARK):
        layout = kept_and_dropped(ROWS, theme).layout
        assert layout.yaxis.autorange == "reversed"
        assert layout.xaxis2.type == "log"


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=8))
def test_any_sizes_can_be_drawn(dropped: list[int]) -> None:
    rows = pd.DataFrame({"rule": [f"rule {index}" for index in range(len(dropped))], "kept": 7, "dropped": dropped})
    rows["records"] = [min(value, 1) for value in dropped]
    axis = kept_and_dropped(rows, LIGHT).layout.xaxis2
    assert axis.range[1] > len(str(max(dropped))) - 1
