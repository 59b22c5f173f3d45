"""The runs that the Collapse page shows at first: as their command trains them, and as it would today."""

import dataclasses
import gzip
import itertools
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from model.trace.training_log import outcome
from model.train.demo import nano, recorded
from model.train.demo.nano import Nano, train_nano


def shipped() -> dict:
    return json.loads(gzip.decompress(recorded.FILE.read_bytes()))


def test_command_writes_settings_and_lines_of_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {side: dataclasses.replace(run, steps=20) for side, run in recorded.RUNS.items()}
    monkeypatch.setattr(recorded, "RUNS", short)
    monkeypatch.setattr(recorded, "FILE", tmp_path / "collapse.json.gz")
    result = CliRunner().invoke(recorded.main)
    assert "collapse.json.gz" in result.output
    sides = shipped()
    assert {side: Nano(**run["settings"], steps=20) for side, run in sides.items()} == short
    assert [[line["step"] for line in run["lines"]] for run in sides.values()] == [list(range(1, 21))] * 2
    assert set(sides["A"]["lines"][0]) == {"step", "loss", "load"}


def test_shipped_runs_have_the_settings_of_the_page_and_all_steps() -> None:
    sides = shipped()
    assert [sides[side]["settings"]["method"] for side in "AB"] == [nano.NOTHING, nano.BIAS]
    for side, run in recorded.RUNS.items():
        assert Nano(**sides[side]["settings"]) == run
        assert [line["step"] for line in sides[side]["lines"]] == list(range(1, nano.STEPS + 1))


@pytest.mark.parametrize("side", ["A", "B"])
def test_shipped_lines_are_what_training_gives_today(side: str) -> None:
    number = 30  # later steps amplify the rounding of another machine
    lines = shipped()[side]["lines"][:number]
    today = list(itertools.islice(train_nano(recorded.RUNS[side]), number))
    assert [line["loss"] for line in today] == pytest.approx([line["loss"] for line in lines], rel=1e-3)
    for ours, theirs in zip(today, lines, strict=True):
        for layer, counts in ours["load"].items():
            moved = sum(abs(a - b) for a, b in zip(counts, theirs["load"][layer], strict=True)) / 2
            assert moved <= 0.01 * sum(counts)


def test_only_the_unbalanced_run_collapsed() -> None:
    top_k = recorded.RUNS["A"].shape.top_k
    ends = {side: outcome(run["lines"], 25, top_k) for side, run in shipped().items()}
    assert ends["A"].collapsed
    assert ends["A"].idle > 0
    assert not ends["B"].collapsed
    assert ends["B"].idle == 0
