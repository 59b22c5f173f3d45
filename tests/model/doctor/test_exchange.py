"""Exchanged weights act on a run, and are back in their places afterwards."""

import torch

from model.doctor.exchange import Exchange, exchanged, orders
from model.network.moe import MixtureOfExperts
from tests.models import random_model, tiny_config


def mixture() -> MixtureOfExperts:
    block = random_model(tiny_config()).block(2).ffn
    assert isinstance(block, MixtureOfExperts)
    return block


def test_experts_and_halves_are_exchanged_and_restored() -> None:
    block = mixture()
    assert block.shared is not None
    gate_up, down = block.experts.gate_up.clone(), block.experts.down.clone()
    shared = block.shared.gate_up.weight.clone()
    with exchanged(block, Exchange(moved={3: 7, 7: 12, 12: 3}, halves=(5,), shared_halves=True)):
        for expert, source in ((3, 7), (7, 12), (12, 3)):
            assert torch.equal(block.experts.gate_up[expert], gate_up[source])
            assert torch.equal(block.experts.down[expert], down[source])
        assert torch.equal(block.experts.gate_up[5], torch.cat(gate_up[5].chunk(2)[::-1]))
        assert torch.equal(block.shared.gate_up.weight, torch.cat(shared.chunk(2)[::-1]))
    assert torch.equal(block.experts.gate_up, gate_up)
    assert torch.equal(block.experts.down, down)
    assert torch.equal(block.shared.gate_up.weight, shared)


def test_all_pairs_and_the_cycles_of_few_suspects_are_tried() -> None:
    assert list(orders([4])) == []
    assert list(orders([4, 6])) == [{4: 6, 6: 4}]
    three = list(orders([1, 2, 3]))
    assert three[:3] == [{1: 2, 2: 1}, {1: 3, 3: 1}, {2: 3, 3: 2}]
    assert three[3:] == [{1: 2, 2: 3, 3: 1}, {1: 3, 2: 1, 3: 2}]
    assert len(list(orders(range(4)))) == 6 + 9  # pairs and derangements
    assert len(list(orders(range(9)))) == 15  # pairs of the first six
