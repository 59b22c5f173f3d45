"""Co-activation and transitions: fixtures worked out by hand, fair routers, and a planted pair."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from model.atlas.coactivation import clusters, coactivation, forced, transitions
from model.atlas.folder import open_sweep
from model.trace.router_rule import RouterRule
from tests.model.atlas.routed import mask_of, sweep_of
from tests.sweeps import write_sweep


@pytest.mark.parametrize(
    ("layout", "same", "other"),
    [((32, 4, 4, 2), 1.6, 0.533333), ((256, 8, 8, 4), 1.763780, 0.755906), ((4, 2, 1, 1), 2 / 3, 2 / 3)],
)
def test_what_the_shape_of_a_router_forces(layout: tuple[int, int, int, int], same: float, other: float) -> None:
    experts, k, groups, kept = layout
    rule = RouterRule(num_experts=experts, top_k=k, num_groups=groups, num_kept_groups=kept)
    assert np.exp2(forced(rule)) == pytest.approx((same, other), abs=1e-6)


def test_a_router_of_one_expert_per_token_forces_nothing_that_can_be_tested() -> None:
    assert np.isnan(forced(RouterRule(num_experts=4, top_k=1))).all()


def test_pmi_of_four_tokens_worked_out_by_hand(tmp_path: Path) -> None:
    documents = [np.array([[[0, 1]], [[0, 1]], [[0, 2]], [[2, 3]]])]
    result = coactivation(sweep_of(tmp_path, documents, 4))
    assert result is not None
    pmi, excess = result["pmi"].values[0], result["excess"].values[0]
    assert (pmi[0, 1], pmi[0, 2], pmi[2, 3]) == pytest.approx((0.415037, -0.584963, 1.0), abs=1e-6)
    assert excess[0, 2] == pytest.approx(0, abs=1e-12)
    assert pmi[1, 0] == pmi[0, 1]
    assert np.isnan(np.diagonal(pmi)).all()
    assert not result["survives"].any()  # one document


def drawn(num_documents: int, seed: int, together: float = 0.0) -> list[np.ndarray]:
    """Documents of 30 tokens over two layers of 8 experts, top-2, with rates of their own.

    A share `together` of the tokens selects experts 2 and 5 in the first layer, and 7 in the second.
    """
    rng, documents = np.random.default_rng(seed), []
    for _ in range(num_documents):
        scores = rng.gumbel(size=(30, 2, 8)) + 0.5 * rng.standard_normal((2, 8))
        planted = rng.random(30) < together
        scores[planted, 0] += 9 * np.isin(np.arange(8), [2, 5])
        scores[planted, 1, 7] += 9
        documents.append(np.argsort(-scores, axis=-1)[..., :2])
    return documents


def test_the_error_is_that_of_the_jackknife_over_documents(tmp_path: Path) -> None:
    documents = drawn(60, seed=1)
    result = coactivation(sweep_of(tmp_path, documents, 8))
    assert result is not None
    masks = np.stack([mask_of(ids, 8)[:, 0] for ids in documents])
    a_D, i_D, j_D = (masks[..., 0] & masks[..., 5]).sum(1), masks[..., 0].sum(1), masks[..., 5].sum(1)
    left_D = np.log2((a_D.sum() - a_D) * 59 * 30 / ((i_D.sum() - i_D) * (j_D.sum() - j_D)))
    jackknife = np.sqrt(59 / 60 * ((left_D - left_D.mean()) ** 2).sum())
    assert result["error"].values[0, 0, 5] == pytest.approx(jackknife, rel=0.03)


def test_a_planted_pair_and_its_transition_survive_and_nothing_else(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, drawn(80, seed=0, together=0.15), 8)
    pairs, after = coactivation(sweep), transitions(sweep)
    assert pairs is not None
    assert after is not None
    assert np.argwhere(np.triu(pairs["survives"].values)).tolist() == [[0, 2, 5]]
    assert pairs["forced"].values[0, 2, 5] == pytest.approx(np.log2(2 / (8 * 7) / (2 / 8) ** 2))
    assert (after["pmi"].values == after["excess"].values).all()
    assert after["excess"].values[0, 2, 7] > 0.4
    q = after["q"].values[0]
    assert sorted(map(tuple, np.argwhere((q < 1e-6) & (after["excess"].values[0] > 0)).tolist())) == [(2, 7), (5, 7)]


def test_clusters_are_experts_that_are_selected_together() -> None:
    """Two triangles that one weak link joins, a link that does not survive, and an expert alone."""
    excess, survives = np.zeros((1, 8, 8)), np.zeros((1, 8, 8), bool)
    for i, j, weight in ((0, 1, 2), (1, 2, 2), (0, 2, 2), (3, 4, 3), (4, 5, 3), (3, 5, 3), (2, 3, 1), (6, 7, -4)):
        excess[0, [i, j], [j, i]], survives[0, [i, j], [j, i]] = weight, True
    excess[0, 5, 6] = excess[0, 6, 5] = 5
    axes = ("moe_layer", "expert", "other_expert")
    pairs = xr.Dataset({"excess": (axes, excess), "survives": (axes, survives)}, {"moe_layer": [1], "expert": range(8)})
    assert clusters(pairs).values.tolist() == [[0, 0, 0, 1, 1, 1, -1, -1]]
    assert (clusters(pairs.assign(survives=pairs["survives"] & False)) == -1).all()


def test_a_sweep_without_pairs_has_no_coactivation(tmp_path: Path) -> None:
    sweep = open_sweep(write_sweep(tmp_path, np.ones((3, 2, 2), int)))
    assert coactivation(sweep) is None
    assert transitions(sweep) is None
