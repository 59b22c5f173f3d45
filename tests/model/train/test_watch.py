"""The watch raises an alarm for each thing that goes wrong, once, and none for a run that goes well."""

import math
from typing import Any

import numpy as np
import pytest

from model.train.watch import COLLAPSE, DEAD, NOT_FINITE, OVERFITTING, REMEMBERED, RUNAWAY, SPIKE, Watch
from tests.models import tiny_config

SHAPE = tiny_config()  # 16 experts, 4 per token
EVEN = [10] * 16


def line(**changes: Any) -> dict[str, Any]:
    return {"loss": 3.0, "grad_norm": 1.0, "load": {"1": EVEN}, "bias": {"1": [0.0] * 16}} | changes


def alarms(watch: Watch, *lines: dict[str, Any]) -> list[str]:
    return [alarm for each in lines for alarm in watch.check(each).get("alarms", [])]


def test_a_run_that_goes_well_raises_none() -> None:
    rng, watch = np.random.default_rng(0), Watch(SHAPE)
    steps = [line(loss=4 - step / 200 + rng.normal(0, 0.05), load={"1": rng.poisson(10, 16).tolist()})
             for step in range(200)]  # fmt: skip
    assert alarms(watch, *steps) == []


def test_spike_is_told_once_while_it_holds_and_again_when_it_comes_back() -> None:
    watch = Watch(SHAPE)
    assert alarms(watch, *[line()] * REMEMBERED) == []
    assert alarms(watch, line(loss=9.0), line(loss=9.0)) == [
        f"{SPIKE}: loss 9, but 3 on average over the last 50 steps"
    ]
    assert alarms(watch, *[line()] * REMEMBERED, line(loss=9.0)) == [
        f"{SPIKE}: loss 9, but 3 on average over the last 50 steps"
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_no_number(value: float) -> None:
    assert alarms(Watch(SHAPE), line(loss=value)) == [f"{NOT_FINITE}: loss is {value}"]


def test_loss_that_is_no_number_does_not_blind_to_a_spike() -> None:
    broken = line(loss=math.nan, heldout={"a": 2.0})
    said = alarms(Watch(SHAPE), broken, *[line()] * REMEMBERED, broken, line(loss=9.0))
    assert said == [*[f"{NOT_FINITE}: loss is nan"] * 2, f"{SPIKE}: loss 9, but 3 on average over the last 50 steps"]


def test_dead_expert_needs_all_remembered_steps() -> None:
    watch, load = Watch(SHAPE), {"1": [0, *EVEN[1:]]}
    assert alarms(watch, *[line(load=load)] * (REMEMBERED - 1)) == []
    assert alarms(watch, line(load=load)) == [f"{DEAD} in L1: 1 of 16 got no token in 50 steps"]


def test_collapse_is_half_of_what_an_expert_could_take() -> None:
    """With 4 of 16 experts a token, one that all tokens take has 4 times a fair share."""
    under, over = [10 + 8, *[10 - 8 / 15] * 15], [10 + 12, *[10 - 12 / 15] * 15]
    assert alarms(Watch(SHAPE), *[line(load={"1": under})] * REMEMBERED) == []
    assert alarms(Watch(SHAPE), *[line(load={"1": over})] * REMEMBERED) == [
        f"{COLLAPSE} in L1: E0 has a load ratio of 2.2"
    ]


def test_runaway_bias() -> None:
    said = f"{RUNAWAY} in L1: biases span 2.5, but an affinity is at most 1"
    assert alarms(Watch(SHAPE), line(bias={"1": [-1.0, 1.5, *[0.0] * 14]})) == [said]


def test_what_only_looks_show_holds_between_them() -> None:
    watch, wild = Watch(SHAPE), {"1": [-1.0, 1.5, *[0.0] * 14]}
    between = {name: value for name, value in line().items() if name != "bias"}
    assert len(alarms(watch, line(bias=wild))) == 1
    assert alarms(watch, between, between, line(bias=wild)) == []
    assert alarms(watch, line()) == []
    assert len(alarms(watch, line(bias=wild))) == 1


def test_overfitting_needs_three_worse_looks_while_the_loss_falls() -> None:
    watch = Watch(SHAPE)
    looks = [line(loss=3 - step / 10, heldout={"a": 2 + step / 100}) for step in range(4)]
    assert alarms(watch, *looks) == [
        f"{OVERFITTING}: held-out bits per byte rose at 3 evaluations in a row while the loss fell"
    ]
    rising = [line(loss=3 + step / 10, heldout={"a": 2 + step / 100}) for step in range(4)]
    assert alarms(Watch(SHAPE), *rising) == []
