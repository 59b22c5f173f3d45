"""Losses against hand-computed values and against autograd's own gradients."""

import pytest
import torch
import torch.nn.functional as F

from model.train.losses import CHUNK, cross_entropy, sequence_balance_loss, switch_balance_loss, update_bias


def test_sequence_loss_by_hand() -> None:
    scores = torch.tensor([[[0.8, 0.4, 0.2, 0.6], [0.5, 0.1, 0.9, 0.6]]])
    assert float(sequence_balance_loss(scores, top_k=2)) == pytest.approx(1.1690477, abs=1e-6)


def test_sequence_loss_is_a_mean_over_sequences_and_one_at_balance() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(3, 8, 4, generator=generator)
    each = [float(sequence_balance_loss(one[None], 2)) for one in scores]
    assert float(sequence_balance_loss(scores, 2)) == pytest.approx(sum(each) / 3, abs=1e-6)
    assert float(sequence_balance_loss(torch.eye(4)[None] + 1e-9, 1)) == pytest.approx(1.0, abs=1e-6)


def test_sequence_loss_pushes_against_the_crowded_expert() -> None:
    scores = torch.tensor([[[0.9, 0.5, 0.1]] * 4], requires_grad=True)
    sequence_balance_loss(scores, 1).backward()
    assert scores.grad is not None
    assert (scores.grad[..., 0] > 0).all()
    assert (scores.grad[..., 1:] < 0).all()


def test_switch_loss_by_hand() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]])
    assert float(switch_balance_loss(probabilities)) == pytest.approx(1.3875, abs=1e-6)


def test_switch_loss_of_two_places_by_hand() -> None:
    """Places {0, 1} and {0, 2} are shares 1/2, 1/4, 1/4; mean probabilities 0.55, 0.2, 0.25."""
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3]])
    assert float(switch_balance_loss(probabilities, top_k=2)) == pytest.approx(3 * 0.3875, abs=1e-6)


def test_switch_loss_is_one_at_balance() -> None:
    assert float(switch_balance_loss(torch.eye(4) * 0.4 + 0.15, top_k=1)) == pytest.approx(1.0, abs=1e-6)


def test_bias_follows_the_sign_of_the_load_error() -> None:
    bias = torch.zeros(8)
    update_bias(bias, torch.tensor([10, 2, 4, 4, 0, 4, 4, 4]), 0.001)
    assert bias.tolist() == pytest.approx([-0.001, 0.001, 0, 0, 0.001, 0, 0, 0])


def test_centred_bias_moves_by_hand_and_keeps_its_mean() -> None:
    bias = torch.zeros(8)
    update_bias(bias, torch.tensor([10, 2, 4, 4, 0, 4, 4, 4]), 0.001, centred=True)
    expected = [-0.001125, 0.000875, -0.000125, -0.000125, 0.000875, -0.000125, -0.000125, -0.000125]
    assert bias.tolist() == pytest.approx(expected, abs=1e-9)


def test_cross_entropy_equals_the_plain_one_over_several_chunks() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, CHUNK // 2, 6, generator=generator, requires_grad=True)
    weight = torch.randn(11, 6, generator=generator, requires_grad=True)
    target = torch.randint(11, (3, CHUNK // 2), generator=generator)
    plain = F.cross_entropy((hidden @ weight.T).flatten(0, 1), target.flatten())
    expected = torch.autograd.grad(3 * plain, (hidden, weight))
    loss = cross_entropy(hidden, weight, target, torch.float32)
    assert loss.item() == pytest.approx(plain.item(), abs=1e-5)
    for got, want in zip(torch.autograd.grad(3 * loss, (hidden, weight)), expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-4)
