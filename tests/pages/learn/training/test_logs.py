"""The logs that come with the app."""

from pathlib import Path

import numpy as np
import pytest

from pages.learn.training import logs

SHIPPED = logs.FOLDER


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_shipped_logs_can_be_read(path: Path) -> None:
    assert path.stat().st_size < 400_000
    (one,) = [each for each in logs.read(SHIPPED).values() if each.name.replace(" ", "-") == path.stem]
    assert one.load().sizes["step"] == len(one.values["step"])
    assert np.isfinite(one.curve("loss")).all()


def test_run_without_balancing_says_that_it_collapsed() -> None:
    shipped = logs.read(SHIPPED)
    assert any(said.startswith("collapse") for _, said in shipped["nano nothing"].alarms)
    assert not shipped["nano bias"].alarms
    worst = {
        name: float(shipped[name].balance()["MaxVio"].isel(step=-1).max()) for name in ("nano nothing", "nano bias")
    }
    assert worst["nano nothing"] > 3
    assert worst["nano bias"] < 1.5


def test_continuations_begin_where_their_base_model_ended() -> None:
    """The steps are those of the model cards; stages that train a new module beside the frozen model do not count."""
    shipped = logs.read(SHIPPED)
    decay, extended, muon, mixture = 7_488 + 995, 7_488 + 995 + 950 + 45, 801 + 179 + 90, 501 + 164
    assert shipped["mini-v3"].span == (1, extended)
    assert shipped["mini-v3 prediction module"].begin == shipped["mini-v3 continued"].begin == decay
    assert shipped["mini-v3 by Muon"].span == (extended + 1, extended + muon)
    assert shipped["mini-v3 by mixture"].span == (extended + muon + 1, extended + muon + mixture + 75)
    assert shipped["mini-v32"].span == (extended + muon + mixture + 1, extended + muon + mixture + 160)
    assert shipped["mini-v32-chat"].begin == shipped["mini-v32"].span[1]
    assert not shipped["mini-v32-chat"].has_one_objective
    assert shipped["mini-v3"].has_one_objective


def test_log_of_the_embedded_model_comes_first() -> None:
    assert next(iter(logs.read(SHIPPED))) == "mini-v3"
