from pathlib import Path

import numpy as np
import pytest

from model.atlas.folder import Sweep
from pages.common.menu import page_path
from tests.pages.conftest import charts, numbers, said
from tests.pages.observe.atlas.conftest import DOMAINS, LAYERS, OpenApp, counts
from tests.sweeps import write_sweep

PAGE = page_path("atlas")


@pytest.fixture
def tuned(sweep: Sweep, shelf: Path) -> Path:
    """The same documents after L1E0 gave half of its choices to L1E3."""
    moved = counts()
    moved[:, 0, 3] += moved[:, 0, 0] // 2
    moved[:, 0, 0] -= moved[:, 0, 0] // 2
    return write_sweep(shelf / "tuned", moved, 2, LAYERS, DOMAINS)


def test_shares_that_moved_have_a_colour(show_at: OpenApp, tuned: Path) -> None:
    app = show_at(part="Two sweeps", sweep="mini")
    figure = charts(app)[1]
    coloured = numbers(figure["data"][1]["z"]).astype(float)
    assert np.argwhere(np.isfinite(coloured)).tolist() == [[0, 0], [0, 3]]
    assert coloured[0, 0] < 0 < coloured[0, 3]
    assert "From mini to tuned, the share of 2 of 8 experts moved beyond chance" in said(app)
    assert "n = 120 documents that both sweeps hold, each compared with itself" in said(app)
    assert app.selectbox(key="among").options == ["all documents", "code", "maths"]


def test_changes_among_a_label(show_at: OpenApp, tuned: Path) -> None:
    app = show_at(part="Two sweeps", sweep="mini", among="code")
    assert "n = 60 documents that both sweeps hold" in said(app)


def test_single_sweep_has_nothing_to_compare_with(show_at: OpenApp, sweep: Sweep) -> None:
    assert "Only one sweep is installed" in show_at(part="Two sweeps").info[0].value


def test_sweeps_of_other_policies_are_refused(show_at: OpenApp, sweep: Sweep, shelf: Path) -> None:
    policy = {"request": {"policy": {"window": 8}}}
    write_sweep(shelf / "cut", counts(), 2, LAYERS, DOMAINS, manifest=policy)
    message = show_at(part="Two sweeps", sweep="mini").info[0].value
    assert message.startswith("The sweeps differ in their window policies, so their loads cannot be compared")
