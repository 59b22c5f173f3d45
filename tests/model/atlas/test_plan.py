"""Saliency by every rule against values worked out by hand, and cuts that every router can bear."""

import doctest
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.atlas import plan
from model.atlas.errors import AtlasError
from model.atlas.folder import open_sweep
from model.atlas.plan import RULES, lowest, missing_rules, most_cut, number_to_cut, random_cut, saliency, sums_of
from model.trace.router_rule import RouterRule
from tests.sweeps import write_sweep

# (ids; gate weights; norms; cosine of the stream before and after), a token each
TOKENS = [((0, 1), (0.6, 0.4), (1, 2), 0.9), ((0, 2), (0.5, 0.5), (3, 1), 0.5),
          ((1, 2), (0.9, 0.1), (2, 10), 0.2), ((0, 1), (0.7, 0.3), (2, 4), 1.0)]  # fmt: skip
V3 = RouterRule(num_experts=256, top_k=8, num_groups=8, num_kept_groups=4)
MINI = RouterRule(num_experts=32, top_k=4, num_groups=4, num_kept_groups=2)


def cells() -> pd.DataFrame:
    """The sums of `TOKENS`, of one document, in two strata, with the class of another row that must not count."""
    rows: dict[tuple[int, int], dict[str, float]] = {}
    for number, (ids, weights, norms, _) in enumerate(TOKENS):
        for expert, weight, norm in zip(ids, weights, norms, strict=True):
            cell = {"stratum": number % 2, "token_class": "all", "layer": 1, "expert": expert}
            row = rows.setdefault((number % 2, expert), {**cell, "docs_hit": 1, "c": 0, "c2": 0, "cn": 0})
            values = {"c": 1, "weight_sum": weight, "norm_sum": norm, "weighted_norm_sum": weight * norm}
            values["weighted_norm2_sum"] = (weight * norm) ** 2
            for name, value in values.items():
                row[name] = row.get(name, 0) + value
    other = {**rows[0, 0], "token_class": "word_start"}
    return pd.DataFrame([*rows.values(), other])


def counts(number: int = 1) -> np.ndarray:
    return np.tile(np.array([3, 3, 2]), (number, 1, 1))


def made(folder: Path) -> plan.Sums:
    """The sums of `TOKENS`, with those of EASY-EP, which no sweep holds yet."""
    sums = sums_of(open_sweep(write_sweep(folder, counts(), 2, counts=cells())))
    easy = np.zeros((1, 3))
    for ids, weights, norms, cosine in TOKENS:
        easy[0, list(ids)] += np.multiply(weights, norms) * max(1 - cosine, 0)
    return plan.Sums(sums.values | {"changed_norm_sum": easy})


def test_examples_hold() -> None:
    assert doctest.testmod(plan).failed == 0


EXPECTED: Mapping[str, list[float]] = {
    "frequency": [3, 3, 2],
    "weighted": [1.8, 1.6, 0.6],
    "ean": [2, 2.666667, 5.5],
    "ean-sum": [6, 8, 11],
    "weighted-ean": [3.5, 3.8, 1.5],
    "reap": [1.166667, 1.266667, 0.75],
    "easy-ep": [0.81, 1.52, 1.05],
}


@pytest.mark.parametrize("rule", RULES)
def test_hand_computed_saliency(tmp_path: Path, rule: str) -> None:
    sums = made(tmp_path)
    assert saliency(sums, rule)[0].tolist() == pytest.approx(EXPECTED[rule], abs=1e-6)
    assert sums.documents.tolist() == [[2, 2, 2]]  # a document hits an expert in each of its strata here


def test_rules_disagree_on_whom_to_cut(tmp_path: Path) -> None:
    sums = made(tmp_path)
    cut = {rule: int(lowest(saliency(sums, rule), 1, 1).argmax()) for rule in RULES}
    assert (cut["reap"], cut["ean"], cut["easy-ep"]) == (2, 0, 0)


def test_a_sweep_of_ids_alone_offers_frequency(tmp_path: Path) -> None:
    sums = sums_of(open_sweep(write_sweep(tmp_path, counts(), 2)))
    assert missing_rules(sums).keys() == RULES.keys() - {"frequency"}
    assert saliency(sums, "frequency").tolist() == [[3, 3, 2]]
    with pytest.raises(
        AtlasError, match=r"the rule reap cannot be used: .*no norms of the outputs .* choose from frequency$"
    ):
        saliency(sums, "reap")


def test_an_expert_that_no_token_selects_has_no_saliency(tmp_path: Path) -> None:
    sums = sums_of(open_sweep(write_sweep(tmp_path, counts(), 2, counts=cells().query("expert != 1"))))
    assert saliency(sums, "reap")[0, 1] == 0


# --- what a router can bear -------------------------------------------------------------------------------------------


def test_limits_of_released_routers() -> None:
    assert (most_cut(V3), most_cut(MINI)) == (240, 24)
    assert number_to_cut(V3, 0.5) == 128
    assert number_to_cut(V3, 16 / 256) == 240
    assert number_to_cut(MINI, 0.25) == 24
    with pytest.raises(
        AtlasError, match=r"cuts 248 of 256 experts in 8 groups, .*at most 240 can be cut, a share of 0\.0625"
    ):
        number_to_cut(V3, 8 / 256)
    with pytest.raises(AtlasError, match=r"cuts 28 of 32 .* at most 24 can be cut, a share of 0\.25"):
        number_to_cut(MINI, 4 / 32)


def test_a_share_that_groups_do_not_divide_keeps_more() -> None:
    assert number_to_cut(MINI, 0.8) == 4  # 6.4 experts, one of each group
    with pytest.raises(AtlasError, match="a share of 0.9 cuts no expert; keep less"):
        number_to_cut(MINI, 0.9)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_shares_that_are_none_are_refused(share: float) -> None:
    with pytest.raises(AtlasError, match="must be above 0 and at most 1"):
        number_to_cut(MINI, share)


def test_each_group_loses_its_lowest() -> None:
    values = np.array([[4.0, 3, 2, 1, 8, 7, 6, 5]])
    assert np.flatnonzero(lowest(values, 2, 2)[0]).tolist() == [3, 7]
    assert np.flatnonzero(lowest(np.zeros((1, 8)), 2, 2)[0]).tolist() == [0, 4]


ROUTERS = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 4), st.integers(1, 8), st.sampled_from([1, 2]))


@given(ROUTERS, st.floats(0.01, 1), st.integers(0, 99))
def test_what_is_accepted_can_always_route(router: tuple[int, ...], keep: float, seed: int) -> None:
    groups, size, kept, top_k, per_group = router
    kept = min(kept, groups)
    top_k, per_group = min(top_k, kept * size), min(per_group, size)
    rule = RouterRule(
        num_experts=groups * size, top_k=top_k, num_groups=groups, num_kept_groups=kept, scores_per_group=per_group
    )
    shape = (3, rule.num_experts)
    try:
        number = number_to_cut(rule, keep)
    except AtlasError:
        refused = groups * int((1 - keep) * size + 1e-9)
        left = size - refused // groups
        if not refused:
            return
        assert left * kept < top_k or (groups > 1 and left < per_group)
        return
    cut = random_cut(shape, groups, number, seed)
    assert (cut.reshape(3, groups, size).sum(-1) == number // groups).all()
    assert 1 - number / rule.num_experts >= keep - 1e-9
    scores = np.where(cut, -np.inf, np.random.default_rng(seed).random(shape))
    if groups > 1:
        assert np.isfinite(rule.group_scores(scores)).all()
    assert not np.take_along_axis(cut, rule.expert_ids(scores), -1).any()
