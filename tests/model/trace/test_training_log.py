"""Summaries of training runs and log lines as labelled arrays, by hand."""

import doctest

import numpy as np
import pytest

from model.trace import training_log
from model.trace.training_log import TrainingLog

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


def test_share_of_right_answers_begins_before_the_first_step() -> None:
    found = TrainingLog("x", "y", log("x")).answers("arithmetic")
    assert found["step"].values.tolist() == [0, 30]
    assert found["share"].values.tolist() == [0.25, 0.75]
    assert found["low"].values.tolist() == [0.07, 0.07]


def test_steps_of_a_continuation_follow_those_of_its_base_model() -> None:
    one = TrainingLog(
        "x", "y", log("x", begin=1000, roll_backs=[[20, "spike"]], position_step=[1], positions={"a": [2]})
    )
    assert one.span == (1001, 1030)
    assert one.stages == [(1001, "first"), (1021, "second")]
    assert [step for step, _ in one.alarms + one.roll_backs] == [1030, 1020]
    assert one.curve("loss")["step"].values.tolist() == [1010, 1020, 1030]
    assert one.load()["step"].values.tolist() == [1010, 1020, 1030]
    assert one.bias(1)["step"].values.tolist() == [1001, 1030]
    assert one.at_evaluations("heldout")["math.en"]["step"].values.tolist() == [1001, 1030]
    assert one.at_evaluations("positions")["a"]["step"].values.tolist() == [1001]
    assert one.answers("arithmetic")["step"].values.tolist() == [1000, 1030]
    assert TrainingLog("x", "y", log("x")).span == (1, 30)


def test_figures_of_the_load_are_those_of_the_log() -> None:
    one = TrainingLog("x", "y", log("x"))
    assert one.layers == [1, 2]
    assert np.isnan(one.load().sel(moe_layer=2, step=10)).all()
    balance = one.balance()
    assert balance["MaxVio"].sel(moe_layer=1).values.tolist() == [0.0, 1.0, 3.0]
    assert balance["share of dead experts"].sel(moe_layer=1).values.tolist() == [0.0, 0.25, 0.75]
    assert np.isnan(one.curve("mtp_loss").values[0])
    assert one.bias(2) is None


def test_examples() -> None:
    assert doctest.testmod(training_log).failed == 0


def test_log_lines_by_hand() -> None:
    lines = [{"step": step + 1, "loss": 4.0 - step, "load": {"1": [3, 1]}} for step in range(2)]
    assert training_log.running_loss(lines, 25).values.tolist() == [4.0, 3.5]
    assert training_log.relative_loads(lines, 25).values.tolist() == [[[1.5, 0.5]]]
    many = [{"step": step + 1, "loss": float(step), "load": {"1": [1, 1]}} for step in range(60)]
    assert training_log.running_loss(many, 25).values[-1] == pytest.approx(np.mean(range(35, 60)))
    assert training_log.relative_loads(many, 25)["step"].values.tolist() == [25, 50, 60]


def test_balance_of_the_last_span() -> None:
    lines = [{"step": 1, "load": {"1": [2, 2], "2": [4, 0]}}, {"step": 2, "load": {"1": [3, 1], "2": [4, 0]}}]
    loads = training_log.relative_loads(lines, 1)
    # Layer 1 carries 3 of 4 tokens on one of two experts, 1.5 times a fair share; layer 2 all, twice a fair share.
    assert training_log.last_balance(loads) == (1.0, 1)
    assert training_log.last_balance(loads.sel(moe_layer=[1])) == (0.5, 0)


def test_outcome_of_a_run_by_hand() -> None:
    # Each step has 4 tokens with 2 of 4 experts each: 8 selections a layer, so a fair share is 2.
    early = {"step": 1, "loss": 9.0, "load": {"1": [0, 0, 4, 4], "2": [2, 2, 2, 2]}}
    last = {"step": 2, "loss": 3.0, "load": {"1": [3, 3, 2, 0], "2": [1, 2, 2, 3]}}
    end = training_log.outcome([early, last], 1, top_k=2)
    assert end == training_log.Outcome(busiest=1.5, share=0.75, idle=1, num_experts=8, loss=3.0)
    assert end.collapsed
    fair = training_log.outcome([last | {"load": {"1": [2, 2, 2, 2]}}], 1, top_k=2)
    assert fair == training_log.Outcome(1.0, 0.5, 0, 4, 3.0)
    assert not fair.collapsed
    both = training_log.outcome([early, last], 2, top_k=2)
    assert (both.busiest, both.loss) == (1.5, 6.0)
