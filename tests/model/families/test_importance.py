"""Importance by plain runs: the own network's numbers for a model that both engines run, and exact zeros."""

import threading

import numpy as np
import pytest

from model.families.choose import load
from model.families.importance import importance
from model.run.interventions import KnockOut
from model.run.request import Capture, RequestError, RunRequest
from model.trace.effects import effect
from model.trace.importance import consequential
from tests.closeness import relative_error
from tests.families import saved

IDS = tuple(range(3, 19))


def test_both_engines_give_the_same_map() -> None:
    maps = [
        list(importance(load(saved("deepseek_v3"), name, device="cpu", dtype="float32"), IDS))[-1]
        for name in ("own", "transformers")
    ]
    own, other = (one.effects for one in maps)
    assert maps[0].total == maps[1].done == 24
    for name in ("chosen_by", "rerouted"):
        np.testing.assert_array_equal(own[name].values, other[name].values)
    for name in ("logprob_change", "kl"):
        assert relative_error(other[name].values, own[name].values) < 1e-3, name


def test_an_expert_that_no_token_chose_is_not_run_where_groups_are_not_limited() -> None:
    engine = load(saved("mixtral"), device="cpu")
    request = RunRequest(token_ids=IDS[:3], capture=Capture(frozenset({"router", "logits"})))
    original = engine.run(request)
    chosen = set(consequential(original))
    ids = original.data["expert_id"]
    assert chosen == {(layer, expert) for layer in range(4) for expert in set(ids.sel(moe_layer=layer).values.flat)}
    states = list(importance(engine, IDS[:3]))
    assert states[0].done == 32 - len(chosen)
    assert states[-1].done == states[-1].total == 32
    layer, expert = min(chosen)
    changed = engine.run(
        RunRequest(token_ids=IDS[:3], capture=request.capture, interventions=(KnockOut(layer, expert),))
    )
    assert states[-1].effects["kl"].sel(moe_layer=layer, expert=expert) == effect(original, changed)["kl"].mean()
    idle = [(layer, expert) for layer in range(4) for expert in range(8) if (layer, expert) not in chosen]
    assert all(float(states[-1].effects["kl"].sel(moe_layer=row, expert=column)) == 0 for row, column in idle)


def test_stop_keeps_the_finished_knock_outs_and_one_token_is_refused() -> None:
    engine, cancel = load(saved("mixtral"), device="cpu"), threading.Event()
    steps = importance(engine, IDS, cancel)
    next(steps)
    next(steps)
    cancel.set()
    assert list(steps) == []
    with pytest.raises(RequestError, match="at least 2 tokens"):
        next(importance(engine, IDS[:1]))
