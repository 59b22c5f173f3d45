import pytest
import torch
from torch import Tensor, nn

from model.families.factor import measure_factors
from model.families.seam import instrument
from tests.families import watched

TOKENS = list(range(3, 19))


@pytest.mark.parametrize(
    ("model_type", "factor"),
    [
        ("qwen3_moe", 1.0),
        ("beam", 1.7),
        ("cohere2_moe", 0.5),
        ("axk1", None),  # a norm follows the sum
        ("gemma4_text", None),
        ("nemotron_h", None),  # a projection follows the sum
        ("llama4_text", None),  # the weight multiplies the input of the expert
        ("jetmoe", None),
    ],
)
def test_factors_of_families(model_type: str, factor: float | None) -> None:
    model = watched(model_type)
    factors = measure_factors(model.seam.blocks.values(), lambda: model.logits(TOKENS))
    assert factors == dict.fromkeys(model.seam.blocks, factor)


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(4, 8, 8))

    def forward(self, states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        return torch.einsum("td,tkdf,tk->tf", states, self.up[top_k_index], top_k_weights)


class Block(nn.Module):
    def __init__(self, power: float) -> None:
        super().__init__()
        self.experts, self.power = Experts(), power
        self.scales = [-2.6]  # not stated as a number of the block

    def forward(self, states: Tensor) -> Tensor:
        ids = torch.arange(len(states))[:, None].expand(-1, 2) % 4
        total = self.experts(states, ids, torch.full(ids.shape, 0.5))
        return states + self.scales[0] * total.abs() ** self.power * total.sign()


@pytest.mark.parametrize(("power", "factor"), [(1.0, -2.6), (2.0, None)])
def test_factor_of_a_block_by_hand(power: float, factor: float | None) -> None:
    model = nn.Sequential(nn.ModuleList([Block(power)]))
    seam = instrument(model)
    block = model.get_submodule("0.0")
    measured = measure_factors(seam.blocks.values(), lambda: block(torch.randn(6, 8)))
    assert measured == {"0.0": factor if factor is None else pytest.approx(factor, rel=1e-5)}
    assert not block.experts._forward_hooks
    assert len(block._forward_hooks) == 1  # that of the layer


def test_a_block_that_does_not_run_has_no_factor() -> None:
    seam = watched("qwen3_moe").seam
    assert measure_factors(seam.blocks.values(), lambda: None) == dict.fromkeys(seam.blocks)
