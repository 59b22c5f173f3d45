"""Logs of two small runs, and the Training page on them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.learn.training import logs

ANSWERED = {"right": 2, "exact": 1, "of": 8, "low": 0.07, "high": 0.59}


def log(name: str, **changes: object) -> dict:
    """Three spans of steps, two layers of four experts, the second of which was added late."""
    load = [[1.0, 1.0, 1.0, 1.0], [2.0, 1.0, 1.0, 0.0], [4.0, 0.0, 0.0, 0.0]]
    return {
        "name": name, "says": "said of it", "stages": [[1, "first"], [21, "second"]], "step": [10, 20, 30],
        "tokens": [100, 200, 300], "loss": [5.0, 4.0, 3.0], "mtp_loss": [None, 5.0, 4.0],
        "load": {"1": load, "2": [None, *load[1:]]}, "alarms": [[30, "collapse in L1: E0 takes 4 times a fair share"]],
        "look_step": [1, 30], "heldout": {"stories.en": [3.0, 2.0], "math.en": [3.5, 2.5]},
        "answer_step": [0, 30], "answers": {"arithmetic": [ANSWERED, ANSWERED | {"right": 6}]},
        "reward": [0.1, 0.2, 0.3],
        "saturation": {"1": [0.5, 1.0]}, "bias_step": [1, 30], "bias": {"1": [[0.0] * 4, [0.3, -0.1, -0.1, -0.1]]},
    } | changes  # fmt: skip


@pytest.fixture
def page(show: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., AppTest]:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "mini.json").write_text(json.dumps(log("mini one")))
    (folder / "nano.json").write_text(json.dumps(log("mini two", alarms=[], loss=[5.0, 5.0, 5.0])))
    monkeypatch.setattr(logs, "logs", lambda: logs.read(folder))
    return show
