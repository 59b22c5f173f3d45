"""A log in small: means, sums, what stays at its step, and runs that went on from each other."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from model.train import summary
from model.train.log import StepLog
from model.train.summary import joined, main, saturation, summarise


def line(step: int, **changes: Any) -> dict[str, Any]:
    whole = {"step": step, "tokens": 10, "loss": float(step), "balance_loss": 1.0, "rate": 0.1, "grad_norm": 1.0}
    return whole | {"load": {"1": [step, 0, 1]}} | changes


def test_spans_are_means_and_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "POINTS", 2)
    found = summarise([line(step) for step in (1, 2, 3, 4)], "a run", "said")
    assert (found["step"], found["tokens"], found["loss"]) == ([2, 4], [20, 40], [1.5, 3.5])
    assert found["load"]["1"] == [[1.8, 0.0, 1.2], [pytest.approx(2.33), 0.0, pytest.approx(0.667)]]


def test_what_was_logged_late_is_absent_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "POINTS", 2)
    late = [line(3, mtp_loss=5.0, indexer_loss=0.5, load={"1": [1, 1], "2": [3, 1]})]
    found = summarise([line(1, load={"1": [1, 1]}), line(2, load={"1": [1, 1]}), *late], "a", "b", [(1, "x")])
    assert (found["mtp_loss"], found["indexer_loss"]) == ([None, 5.0], [None, 0.5])
    assert found["load"]["2"] == [None, [1.5, 0.5]]
    assert found["stages"] == [[1, "x"]]


def test_looks_biases_and_alarms_stay_at_their_steps() -> None:
    look = {"heldout": {"a": 2.0}, "probe": {"1": [[0, 1]]}, "bias": {"1": [0.1, -0.1]}}
    last = {"heldout": {"a": 1.5}, "probe": {"1": [[0, 2]]}, "bias": {"1": [0.2, -0.2]}}
    found = summarise([line(1, **look), line(2, alarms=["dead"]), line(3, **last)], "a", "b")
    assert found["alarms"] == [[2, "dead"]]
    assert found["roll_backs"] == []
    assert (found["look_step"], found["heldout"]) == ([1, 3], {"a": [2.0, 1.5]})
    assert found["saturation"] == {"1": [0.5, 1.0]}
    assert (found["bias_step"], found["bias"]) == ([1, 3], {"1": [[0.1, -0.1], [0.2, -0.2]]})


def test_positions_are_of_the_looks_that_read_long_texts() -> None:
    look = {"heldout": {"a": 2.0}, "probe": {"1": [[0, 1]]}, "bias": {"1": [0.1, -0.1]}}
    spans = [{"start": 512, "end": 1024, "bits_per_byte": 1.5, "in_pieces": 1.75, "tokens": 9}]
    found = summarise([line(1, **look), line(2, **look, positions=spans)], "a", "b")
    assert found["position_step"] == [2]
    assert found["positions"] == {"512 to 1,023": [1.5], "512 to 1,023, in pieces": [1.75]}
    assert "positions" not in summarise([line(1, **look)], "a", "b")


def test_answers_begin_before_the_first_step_of_each_stage() -> None:
    before, middle, last = ({"arithmetic": {"right": right, "of": 8}} for right in (0, 3, 5))
    first = [line(1, before={"answers": before}), line(2, answers=middle)]
    second = [line(1, before={"answers": middle}, reward=0.25), line(2, answers=last, reward=0.75)]
    found = summarise(joined([first, second]), "a", "b")
    assert found["answer_step"] == [0, 2, 2, 4]
    assert found["answers"] == {"arithmetic": [{"right": right, "of": 8} for right in (0, 3, 3, 5)]}
    assert found["reward"] == [None, None, 0.25, 0.75]
    assert "answers" not in summarise([line(1)], "a", "b")


def test_saturation_counts_places() -> None:
    assert saturation([[0, 1], [2, 3]], [[1, 5], [2, 3]]) == 0.75


def test_runs_that_went_on_are_counted_through() -> None:
    assert [one["step"] for one in joined([[line(1), line(2)], [line(1)]])] == [1, 2, 3]


def test_return_to_a_saved_state_is_told_at_the_step_after_it() -> None:
    event = {"from": 7, "to": 1, "said": ["loss spike: 9"]}
    found = summarise(joined([[line(1), line(2)], [line(1), line(2, roll_back=event)]]), "a", "b")
    ((step, said),) = found["roll_backs"]
    assert step == 4
    assert said == "rolled back 6 steps to a saved state and skipped their text: loss spike: 9"


def test_log_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="no step"):
        summarise([], "a", "b")


def test_command_writes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary.write, "__defaults__", (tmp_path / "logs",))
    run = tmp_path / "run"
    run.mkdir()
    with StepLog(run) as log:
        log.write(line(1))
    result = CliRunner().invoke(
        main, [str(run), "--name", "my run", "--says", "well", "--stage", "1", "first", "--begin", "70"]
    )
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "logs" / "my-run.json").read_text())
    assert (written["says"], written["begin"]) == ("well", 70)
