"""Muon: what its iteration does to singular values, which parameters it takes, and the size of a step."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.network.transformer import Transformer
from model.train.config import TrainConfig
from model.train.optimiser import COEFFICIENTS, ITERATIONS, Muon, make_optimiser, matrices, orthogonalise
from tests.models import random_model, tiny_config

SETTINGS = TrainConfig(
    total_steps=1, warmup_steps=0, decay_steps=0, learning_rate=0.01, optimiser="muon", sequence_length=8, batch_size=1,
    bias_speed=0.0,
)  # fmt: skip
SHAPE = tiny_config(num_layers=3, tie_embeddings=False, has_mtp=True)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_the_iteration_keeps_the_directions_and_maps_each_singular_value(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    """Against the polynomial applied to the singular values of a decomposition, in fp64."""
    matrix = scale * torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.norm(dim=-1, keepdim=True)
    for _ in range(ITERATIONS):
        values = COEFFICIENTS[0] * values + COEFFICIENTS[1] * values**3 + COEFFICIENTS[2] * values**5
    torch.testing.assert_close(orthogonalise(matrix), left @ torch.diag_embed(values) @ right, atol=1e-6, rtol=0)


def test_singular_values_come_close_to_one_and_zero_stays_zero() -> None:
    made = orthogonalise(torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(made)
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.25
    assert not orthogonalise(torch.zeros(1, 4, 6)).any()


def test_matrices_of_a_stack_are_views_in_order() -> None:
    stack = torch.arange(2 * 6 * 5.0).view(2, 6, 5)
    pieces = matrices(stack, 2)
    assert torch.equal(pieces[1], stack[0, 3:])
    pieces[2].zero_()
    assert not stack[1, :3].any()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_matrices_decay_and_norms_do_not(name: str) -> None:
    optimiser = make_optimiser(Transformer(SHAPE), dataclasses.replace(SETTINGS, weight_decay=0.3, optimiser=name))
    decays = {
        parameter.ndim >= 2: group["weight_decay"] for group in optimiser.param_groups for parameter in group["params"]
    }
    assert decays == {True: 0.3, False: 0.0}


def test_tables_routers_and_vectors_stay_with_adamw() -> None:
    model = Transformer(SHAPE)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = make_optimiser(model, SETTINGS).param_groups
    by_adamw = {names[id(p)] for group in groups if "pieces" not in group for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(names)
    assert by_adamw == {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim < 2 or name.endswith(("embedding.weight", "head.weight", "router.weight"))
    }
    joined = {names[id(p)] for group in groups if group.get("pieces") == 2 for p in group["params"]}
    assert joined == {name for name in names.values() if "gate_up" in name}


def test_a_step_moves_every_matrix_by_the_rate_and_decays_it() -> None:
    """The root mean square of an update is about 0.2 times the rate, whatever the gradient's size and the shape."""
    model = random_model(SHAPE)
    optimiser = make_optimiser(model, dataclasses.replace(SETTINGS, weight_decay=0.5))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = 1e-3 * torch.randn(parameter.shape, generator=generator)
    optimiser.step()
    moved = {id(p) for group in optimiser.param_groups if "pieces" in group for p in group["params"]}
    for name, parameter in model.named_parameters():
        if id(parameter) in moved and "indexer" not in name:
            update = parameter.detach() - before[name] * (1 - 0.01 * 0.5)
            assert float(update.square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.35), name
            assert "momentum" in optimiser.state[parameter]
        else:
            assert "exp_avg" in optimiser.state[parameter]


def test_momentum_is_nesterovs() -> None:
    """Two steps by hand: m = 0.95 m + 0.05 g, and the update is of 0.05 g + 0.95 m."""
    weight = torch.nn.Parameter(torch.zeros(2, 3))
    optimiser = Muon([{"params": [weight], "pieces": 1}], lr=1.0, weight_decay=0.0)
    first, second = torch.tensor([[1.0, 0, 0], [0, 2, 0]]), torch.tensor([[0.0, 1, 0], [3, 0, 1]])
    momentum, expected = torch.zeros(2, 3), torch.zeros(2, 3)
    for gradient in (first, second):
        weight.grad = gradient.clone()
        optimiser.step()
        momentum = 0.95 * momentum + 0.05 * gradient
        expected -= 0.2 * 3**0.5 * orthogonalise((0.05 * gradient + 0.95 * momentum)[None])[0]
        torch.testing.assert_close(weight.detach(), expected, atol=1e-6, rtol=0)
        assert weight.grad is None
