"""Progress: what a browser sends is checked, and merged with what the session knows."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies

from pages.learn.lessons import progress


def test_progress_of_a_browser_is_read() -> None:
    kept = {"1-tokens": {"step": 3, "right": [1, 2]}, "mine": {"step": 0}}
    assert progress.read(json.dumps(kept)) == {
        "1-tokens": {"step": 3, "right": [1, 2]},
        "mine": {"step": 0, "right": []},
    }


@pytest.mark.parametrize(
    "kept",
    [
        "", "{", "[]", "7", "[" * 9_999, '{"<b>": {"step": 1}}', '{"a": {"step": true}}', '{"a": {"step": -1}}',
        '{"a": {"step": 1e9}}', '{"a": {"step": 1, "right": 7}}', '{"a": 1}', "x" * (progress.MOST_BYTES + 1),
    ],
)  # fmt: skip
def test_anything_else_is_left_out(kept: str) -> None:
    assert progress.read(kept) == {}


values = strategies.recursive(
    strategies.none() | strategies.integers() | strategies.text(max_size=5),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(max_size=5), inner),
    max_leaves=10,
)


@given(values)
def test_no_json_ends_in_an_error(kept: Any) -> None:
    for entry in progress.read(json.dumps(kept)).values():
        assert set(entry) == {"step", "right"}
