"""Interventions: what they refuse, and a replayed routing, which a trace file keeps."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from model.run.interventions import GateTemperature, Replay, ScoreThreshold, experts_of_group
from model.run.request import RequestError, RunRequest
from model.trace import file
from model.trace.trace import Trace
from tests.traces import QWEN3, family_trace, random_trace


def test_replay_holds_a_traces_routing_exactly_and_a_trace_file_keeps_it() -> None:
    trace = random_trace()
    replay = Replay.of(trace)
    assert replay.layers == (1, 2)
    assert np.array_equal(replay.id_array, trace.data["expert_id"])
    assert np.array_equal(replay.weight_array, trace.data["gate_weight"])
    assert Replay.of(trace, (2,)).id_array.tolist() == trace.data["expert_id"].sel(moe_layer=[2]).values.tolist()
    request = RunRequest(prompt="a", interventions=(replay,)).to_json()
    kept = file.loads(file.dumps(dataclasses.replace(trace, request=request))).request
    assert RunRequest.from_json(kept).interventions == (replay,)


def test_replay_follows_the_routers_own_order_of_ranks() -> None:
    """Experts 5, 1, 3 by weight stood at places 2, 0, 1 of the router's answer, which was 1, 3, 5."""
    trace = family_trace(dataclasses.replace(QWEN3, top_k=3))
    data = trace.data.copy(deep=True)
    data["expert_id"][4, 1], data["gate_weight"][4, 1], data["rank_order"][4, 1] = [5, 1, 3], [0.5, 0.3, 0.2], [2, 0, 1]
    replay = Replay.of(dataclasses.replace(trace, data=data), (1,))
    assert replay.id_array[4, 0].tolist() == [1, 3, 5]
    assert replay.weight_array[4, 0] == pytest.approx([0.3, 0.2, 0.5])


def without(trace: Trace, **variables: np.ndarray | None) -> Trace:
    data = trace.data.drop_vars([name for name, values in variables.items() if values is None])
    given = {name: (trace.data[name].dims, values) for name, values in variables.items() if values is not None}
    return dataclasses.replace(trace, data=data.assign(given), origin=dict(trace.origin) | {"kind": "imported"})


def test_a_trace_that_does_not_know_its_routing_cannot_be_replayed() -> None:
    trace = random_trace()
    unknown, weightless = trace.data["expert_id"].values.copy(), trace.data["gate_weight"].values.copy()
    unknown[3, 0, 1], weightless[0, 0, 0] = -1, np.nan
    for changed in (without(trace, expert_id=unknown), without(trace, gate_weight=weightless)):
        with pytest.raises(RequestError, match="must know every expert and its weight"):
            Replay.of(changed)
    with pytest.raises(RequestError, match="does not hold experts and their weights"):
        Replay.of(without(trace, gate_weight=None))
    with pytest.raises(RequestError, match="no routing of layer 9"):
        Replay.of(trace, (1, 9))


def test_replay_too_large_for_a_trace_file_is_refused() -> None:
    count = 58 * 8 * 20_000
    with pytest.raises(RequestError, match="takes 53 MB, more than the 48 that a trace file can keep"):
        Replay(tuple(range(3, 61)), 20_000, 8, bytes(2 * count), bytes(4 * count))


@pytest.mark.parametrize("changes", [{"weights": "AAA"}, {"weights": "AAAA"}, {"layers": [2, 1]}, {"top_k": "2"}])
def test_damaged_replay_is_refused(changes: dict) -> None:
    plain = RunRequest(prompt="a", interventions=(Replay.of(random_trace()),)).to_json()
    plain["interventions"][0] |= changes
    with pytest.raises(RequestError):
        RunRequest.from_json(plain)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GateTemperature(0), "temperature must be above 0, it is 0"),
        (lambda: GateTemperature(float("nan")), "temperature must be above 0"),
        (lambda: ScoreThreshold(1.5), "an affinity from 0 to 1, not 1.5"),
        (lambda: ScoreThreshold(float("nan")), "an affinity from 0 to 1"),
        (lambda: experts_of_group(4, 8, 4), "group 4 does not exist; groups are 0 to 3"),
    ],
)
def test_impossible_changes_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()
