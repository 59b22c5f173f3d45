"""Rotary embedding and YaRN against values worked out outside this project."""

import math

import pytest
import torch

from model.network.config import Yarn
from model.network.layers import RotaryTable, rotary_frequencies, rotate, rotate_halves
from tests.closeness import relative_error
from tests.models import tiny_config

RELEASED = Yarn(factor=40, original_max_positions=4096, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0)


def test_rotation_of_adjacent_pairs() -> None:
    table = RotaryTable(tiny_config(rope_head_dim=8))
    turned = rotate(torch.arange(1.0, 9.0).view(1, 1, 1, 8), table(3, 4))
    expected = [-1.272233, -1.838865, 1.683929, 4.707907, 4.817777, 6.147278, 6.975968, 8.020965]
    assert relative_error(turned.flatten(), expected) <= 1e-6


def test_scores_are_the_same_in_the_other_common_channel_order() -> None:
    table = RotaryTable(tiny_config(rope_head_dim=8))
    query, key = torch.arange(1.0, 9.0), torch.arange(8.0, 0.0, -1.0)
    turned = [rotate(x.view(1, 1, 1, 8), table(at, at + 1)).flatten() for x, at in ((query, 3), (key, 1))]
    pairs_apart = [torch.cat([x[0::2], x[1::2]]) for x in turned]
    expected = [-1.272233, 1.683929, 4.817777, 6.975968, -1.838865, 4.707907, 6.147278, 8.020965]
    assert relative_error(pairs_apart[0], expected) <= 1e-6
    assert float(pairs_apart[0] @ pairs_apart[1]) == pytest.approx(float(turned[0] @ turned[1]), abs=1e-4)


def test_rotation_of_channels_half_the_width_apart() -> None:
    table = RotaryTable(tiny_config(rope_head_dim=8))
    turned = rotate_halves(torch.arange(1.0, 9.0).view(1, 1, 1, 8), table(3, 4)).flatten().tolist()
    expected = [-1.695593, 0.137552, 2.788682, 3.975982, -4.808843, 6.323060, 7.086837, 8.011964]
    assert relative_error(turned, expected) <= 1e-6


def test_yarn_frequencies_of_the_released_model() -> None:
    table = rotary_frequencies(64, 10000.0, RELEASED)
    known = {
        0: 1.0, 9: 0.0749894209, 10: 0.0562341325, 11: 0.0390069266, 15: 0.0083345090, 20: 7.90569415e-4,
        22: 1.77827941e-4, 23: 3.33380358e-5, 24: 2.5e-5, 31: 3.33380358e-6,
    }  # fmt: skip
    assert {i: table[i].item() for i in known} == pytest.approx(known, rel=1e-6)


def test_softmax_scale_of_the_released_model() -> None:
    assert 192**-0.5 * RELEASED.softmax_scale == pytest.approx(0.1352337789, abs=1e-9)
    assert RELEASED.rotation_scale == 1.0


def test_scores_depend_on_the_distance_only() -> None:
    table = RotaryTable(tiny_config())
    query, key = torch.randn(2, 1, 1, 1, 8)
    near = rotate(query, table(7, 8)).flatten() @ rotate(key, table(4, 5)).flatten()
    far = rotate(query, table(103, 104)).flatten() @ rotate(key, table(100, 101)).flatten()
    assert near.item() == pytest.approx(far.item(), abs=1e-4)


def test_rotation_keeps_lengths_unless_yarn_scales_them() -> None:
    yarn = Yarn(factor=4, original_max_positions=64, mscale=1.0, mscale_all_dim=0.5)
    x = torch.randn(1, 3, 2, 8)
    plain = rotate(x, RotaryTable(tiny_config())(0, 3))
    scaled = rotate(x, RotaryTable(tiny_config(yarn=yarn))(0, 3))
    assert torch.allclose(plain.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    expected = (0.1 * math.log(4) + 1) / (0.05 * math.log(4) + 1)
    assert torch.allclose(scaled.norm(dim=-1), x.norm(dim=-1) * expected, atol=1e-5)
