"""The probe points: a tape that records none of them, and the recorder, which records all."""

import torch
import torch.nn.functional as F

from model.network.decision import Routing
from model.network.layers import swiglu
from model.network.tape import Tape
from model.run.recorder import Recorder
from tests.models import random_model, tiny_config


class Nothing(Tape):
    """A tape that records no probe point."""


def test_tape_that_wants_nothing_needs_no_method() -> None:
    model, ids = random_model(tiny_config()), torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.equal(model(ids, tape=Nothing()), model(ids))


def test_recorder_has_a_method_of_its_own_for_every_probe_point() -> None:
    points = {name for name, value in vars(Tape).items() if callable(value) and not name.startswith("_")}
    assert {"layer_input", "layer_output", "attention", "selection", "routing", "expert_outputs"} <= points
    assert points <= set(vars(Recorder))


class Outputs(Tape):
    """A tape of the outputs of experts."""

    def __init__(self) -> None:
        self.routed: dict[int, torch.Tensor] = {}
        self.outputs: dict[int, torch.Tensor] = {}

    def routing(self, layer: int, routing: Routing) -> None:
        self.routed[layer] = routing.expert_ids_TK

    def expert_outputs(self, layer: int, outputs_ND: torch.Tensor, order_N: torch.Tensor) -> None:
        self.outputs[layer] = torch.empty_like(outputs_ND).index_copy_(0, order_N, outputs_ND)


def test_outputs_of_experts_come_before_their_weights() -> None:
    model, tape, inputs = random_model(tiny_config()), Outputs(), []
    moe = model.block(2).ffn
    moe.register_forward_pre_hook(lambda _, args: inputs.append(args[0].flatten(0, 1)))
    with torch.no_grad():
        model(torch.tensor([[1, 2, 3], [4, 5, 6]]), tape=tape)
        experts, ids_TK = moe.experts, tape.routed[2]
        expected = [
            F.linear(swiglu(F.linear(x_D, experts.gate_up[expert])), experts.down[expert])
            for x_D, ids_K in zip(inputs[0], ids_TK, strict=True)
            for expert in ids_K.tolist()
        ]
    torch.testing.assert_close(tape.outputs[2], torch.stack(expected), rtol=1e-5, atol=1e-5)
