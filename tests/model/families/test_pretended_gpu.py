"""Models that transformers runs give the CPU's trace on a pretended GPU (tests/pretended_device.py)."""

import pytest

from model.families.engine import TransformersEngine
from model.run.interventions import ForceExpert, KnockOut, Replay, ScoreThreshold
from model.run.request import Capture, RunRequest
from tests.closeness import assert_same
from tests.families import saved
from tests.pretended_device import pretend

pretend()
IDS = tuple(range(3, 15))
EVERYTHING = frozenset({"router", "attention", "inputs", "logits"})


@pytest.mark.parametrize("model_type", ["qwen3_moe", "gpt_oss", "deepseek_v4", "jamba", "jetmoe", "kolibri1", "phimoe"])
def test_both_devices_give_the_same_trace(model_type: str) -> None:
    cpu, gpu = (
        TransformersEngine.load(saved(model_type), device=device, dtype="float32") for device in ("cpu", "pretended")
    )
    assert (gpu.device.type, gpu.probed.found.rule) == ("pretended", cpu.probed.found.rule)
    (first, *_, last), everything = cpu.shape.moe_layers, Capture(EVERYTHING & cpu.abilities.captures)
    changes = [KnockOut(last, 1), ForceExpert(last, 2), ScoreThreshold(0.1, last)]
    changes = [change for change in changes if type(change).__name__ in cpu.abilities.interventions]
    replay = Replay.of(cpu.run(RunRequest(token_ids=IDS)), (first,))
    for request in (
        RunRequest(token_ids=IDS, max_new_tokens=1, temperature=1.0, seed=3, capture=everything),
        RunRequest(token_ids=IDS, interventions=(*changes, replay)),
    ):
        one, other = gpu.run(request), cpu.run(request)
        assert one.tokens == other.tokens
        assert_same(one.data, other.data)
