"""Halves, mixes and the fixture by hand."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.atlas.placement.loads import DOCUMENTS, WINDOWS, Loads
from model.atlas.placement.plan import Layout, halves, plan, weighted_load
from model.trace.placement import PlacementError

# Two windows in time: the first is fitted, the second held out.
FIXTURE = Loads(np.array([[[6, 1, 1, 0]], [[1, 6, 1, 0]]]), (1,), WINDOWS, 3, 1)


def documents(labels: list[str], seed: int = 0) -> Loads:
    counts = np.random.default_rng(seed).multinomial(8, [0.4, 0.3, 0.2, 0.1], size=(len(labels), 2))
    return Loads(counts, (1, 2), DOCUMENTS, 3, 1, np.array(labels), "domain")


def test_fixture_by_hand() -> None:
    """6, 1, 1, 0 with two copies: expert 0 has three places of 2; places [0, 0, 3 | 0, 1, 2], loads 4 and 4."""
    made = plan(FIXTURE, Layout(2, 2))
    assert made.placement.expert.values.tolist() == [[0, 0, 3, 0, 1, 2]]
    assert made.placement.load(made.load(made.fit_U)).values.tolist() == [[4, 4]]
    assert made.placement.load(made.load(made.held_U)).values == pytest.approx(np.array([[2 / 3, 22 / 3]]))
    assert made.numbered is not None
    assert made.numbered.load(made.load(made.held_U)).values.tolist() == [[7, 1]]


def test_what_cannot_be_placed_is_refused() -> None:
    for layout, message in (
        (Layout(2, -2), "2 places are fewer than the 4 experts"),
        (Layout(3, 0), "4 do not divide evenly among 3 devices"),
        (Layout(4, 0, num_nodes=3), "4 ranks do not divide evenly among 3 machines"),
        (Layout(2, 6, one_copy=True), "10 places are more than 2 for each of 4 experts"),
    ):
        with pytest.raises(PlacementError, match=message):
            plan(FIXTURE, layout)


def test_experts_that_do_not_divide_have_no_figure_by_number() -> None:
    assert plan(FIXTURE, Layout(3, 2)).numbered is None


def test_one_copy_on_a_rank() -> None:
    made = plan(FIXTURE, Layout(2, 2, one_copy=True))
    for rank in made.placement.expert.values.reshape(2, 3).tolist():
        assert len(set(rank)) == 3
    assert made.placement.copies.values.tolist() == [[2, 2, 1, 1]]  # expert 0 has its two; then 1 and 2 are equal


@given(st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=40), st.integers(0, 9))
def test_halves_share_no_document_and_split_each_label(labels: list[str], seed: int) -> None:
    loads = documents(labels)
    fit, held = halves(loads, None, seed)
    assert not (fit & held).any()
    assert (fit | held).all()
    for label in set(labels):
        of_label = np.array(labels) == label
        assert 0 <= (fit & of_label).sum() - (held & of_label).sum() <= 1
    fit, held = halves(loads, {"a": 1.0}, seed)
    assert set(np.array(labels)[fit | held].tolist()) <= {"a"}
    assert np.array_equal(fit, halves(loads, {"a": 1.0}, seed)[0])


def test_another_seed_gives_other_halves() -> None:
    loads = documents(["a"] * 40)
    assert not np.array_equal(halves(loads, None, 0)[0], halves(loads, None, 1)[0])


def test_windows_are_split_at_the_middle() -> None:
    loads = dataclasses.replace(FIXTURE, counts_ULE=np.ones((5, 1, 4), int))
    assert [mask.tolist() for mask in halves(loads, None, 0)] == [[True] * 3 + [False] * 2, [False] * 3 + [True] * 2]


def test_a_mix_gives_each_label_its_share() -> None:
    """By hand: a has 8 + 0, b has 0 + 2 selections; with 1 to 4, of 10 selections a gets 2 and b 8."""
    counts = np.array([[[8, 0]], [[0, 2]], [[9, 9]]])
    loads = Loads(counts, (1,), DOCUMENTS, 2, 1, np.array(["a", "b", "c"]), "domain")
    mask = np.array([True, True, False])
    assert weighted_load(loads, mask, None).values.tolist() == [[8, 2]]
    assert weighted_load(loads, mask, {"a": 0.2, "b": 0.8}).values == pytest.approx(np.array([[2, 8]]))
