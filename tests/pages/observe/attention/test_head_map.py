import pytest

from model.trace.cells import whole
from pages.observe.attention import head_map


def test_a_drawn_rectangle_becomes_the_part_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, object] = {"map": {"selection": {"points": [], "box": [{"x": [3.6, -2.0], "y": [7.2, 99.9]}]}}}
    monkeypatch.setattr(head_map.st, "session_state", state)
    head_map.take("map", whole(20))
    assert (state["queries"], state["keys"]) == ((8, 19), (0, 3))
    state["map"] = {"selection": {"points": [], "box": [{"x": [5.1, 5.2], "y": [7.2, 9.9]}]}}
    head_map.take("map", whole(20))
    assert state["keys"] == (0, 3)


def test_a_click_chooses_the_rows_token_and_again_none(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, object] = {"map": {"selection": {"points": [{"customdata": {"0": 4, "1": 2, "2": 0.5}}]}}}
    monkeypatch.setattr(head_map.st, "session_state", state)
    head_map.take("map", whole(20))
    assert state["token"] == 4
    head_map.take("map", whole(20))
    assert state["token"] is None
