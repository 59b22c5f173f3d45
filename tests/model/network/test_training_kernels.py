"""The forms used in training against the ones used in runs: same values, same gradients."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from model.network.moe import Experts
from model.network.training_kernels import blocked_experts, lay_out
from tests.closeness import ROUNDING, relative_error
from tests.models import random_model, tiny_config


@given(st.data())
def test_every_row_has_its_own_slot_in_a_block_of_its_expert(data: st.DataObject) -> None:
    num_experts, top_k, block = 6, 2, 4
    pairs = st.lists(st.integers(0, num_experts - 1), min_size=top_k, max_size=top_k, unique=True)
    ids_TK = torch.tensor(data.draw(st.lists(pairs, min_size=1, max_size=40)))
    sizes, token_M, slot_TK = lay_out(ids_TK, num_experts, block)
    assert slot_TK.unique().numel() == slot_TK.numel()
    assert torch.arange(num_experts).repeat_interleave(torch.tensor(sizes))[slot_TK].equal(ids_TK)
    assert token_M[slot_TK].equal(torch.arange(len(ids_TK))[:, None].expand(-1, top_k))
    assert (token_M == len(ids_TK)).sum() == len(token_M) - slot_TK.numel()
    counts = torch.bincount(ids_TK.flatten(), minlength=num_experts).tolist()
    assert all(size % block == 0 and 0 <= size - count < block for size, count in zip(sizes, counts, strict=True))


def test_blocked_experts_equal_one_product_per_expert() -> None:
    generator = torch.Generator().manual_seed(0)
    config = tiny_config()
    experts = Experts(config)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2, generator=generator)
    x_TD = torch.randn(37, config.hidden_size, generator=generator, requires_grad=True)
    ids_TK = torch.rand(37, config.num_experts, generator=generator).topk(4).indices
    weights_TK = torch.rand(37, 4, generator=generator, requires_grad=True)
    inputs = (x_TD, weights_TK, experts.gate_up, experts.down)
    wanted = experts.eval()(x_TD, ids_TK, weights_TK)
    got = blocked_experts(x_TD, experts.gate_up, experts.down, ids_TK, weights_TK)
    assert relative_error(got, wanted) <= ROUNDING
    for one, other in zip(
        torch.autograd.grad(got.square().sum(), inputs), torch.autograd.grad(wanted.square().sum(), inputs), strict=True
    ):
        assert relative_error(one, other) <= ROUNDING


@pytest.mark.parametrize("q_lora_rank", [24, None])
def test_model_in_training_mode_gives_the_same_logits(q_lora_rank: int | None) -> None:
    model = random_model(tiny_config(q_lora_rank=q_lora_rank))
    ids = torch.randint(320, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert relative_error(model.train()(ids), model.eval()(ids)) <= ROUNDING
