"""Figures of rollout and trainer against values worked out by hand, their intervals, and how documents are paired."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.trace import rollout
from model.trace.comparison import CompareError, Comparison
from model.trace.comparison_measures import MEASURES, measures
from model.trace.comparison_report import verdict
from model.trace.documents import FEWEST, paired_difference
from model.trace.imports.table_rows import Document, Logprobs, built
from model.trace.pairing import compare_documents

ROLLOUT = [[[0, 1], [2, 3]], [[0, 1], [2, 3]], [[1, 0], [3, 1]], [[0, 2], [2, 3]]]  # [token][layer][rank]
TRAINER = [[[1, 0], [2, 3]], [[0, 1], [2, 1]], [[1, 2], [3, 0]], [[0, 2], [2, 3]]]
DELTA = [0, 0.1, -0.1, 0.8]


def document(
    rows: Any, logprobs: Any = None, name: str = "one", num_prompt: int = 0, temperature: Any = 1.0, ids: Any = None
) -> Document:
    ids = list(range(10, 10 + len(rows))) if ids is None else ids
    values = Logprobs(logprobs, temperature)
    return Document(name, built(np.array(rows, np.int16), 0, ids, num_prompt, None, values, "test"))


def pair(num_prompt: int = 0) -> list[Comparison]:
    trainer = document(TRAINER, [-1 + delta for delta in DELTA], num_prompt=num_prompt)
    return compare_documents([document(ROLLOUT, [-1.0] * 4, num_prompt=num_prompt)], [trainer])


def test_hand_computed_figures() -> None:
    values = {row["figure"]: row["value"] for row in rollout.figure_rows(pair())}
    assert values == pytest.approx(
        {
            "split-share": 3 / 8,
            "split-tokens": 1 / 2,
            "split-layers": 3 / 4,
            "slot-loss": 1 - 0.8125,
            "k1": -0.2,
            "k3": (0.005171 + 0.004837 + 0.425541) / 4,
            "ratio-share": 0.25,
            "probability-difference": 0.131137,
        },
        abs=1e-6,
    )
    layers = rollout.layer_rows(pair())
    assert [row["split_share"] for row in layers] == [1 / 4, 1 / 2]
    first = [sum(row["first"].values()) for row in layers]
    assert first == [1, 1]
    assert pair()[0].first_split.tolist() == [-1, 1, 0, -1]


def test_measures_are_the_same_figures_and_a_limit_bounds_both_signs_of_k1() -> None:
    values = measures(*pair())
    assert list(values) == list(MEASURES)
    assert values["k1"] == pytest.approx(0.2, abs=1e-6)
    assert (values["split-share"], values["changed-share"]) == (3 / 8, 2 / 8)  # one follows an earlier layer


def test_tau_moves_the_share_of_extreme_ratios() -> None:
    shares = [measures(*pair(), tau=tau)["ratio-share"] for tau in (1.05, 1.2, 2.3)]
    assert shares == [0.75, 0.25, 0]


def test_only_generated_tokens_count_for_probabilities() -> None:
    values = {row["figure"]: row for row in rollout.figure_rows(pair(num_prompt=3))}
    assert values["k1"]["n"] == 1
    assert values["k1"]["value"] == pytest.approx(-0.8, abs=1e-6)
    assert values["split-share"]["n"] == 8
    assert not any("generated no token" in line for line in rollout.about_documents(pair(num_prompt=3)))
    assert "A generated no token" in rollout.about_documents(pair(num_prompt=4))[-1]


def test_log_probabilities_of_another_temperature_are_refused() -> None:
    sides = [document(ROLLOUT, [-1.0] * 4)], [document(TRAINER, [-1.0] * 4, temperature=0.7)]
    with pytest.raises(CompareError, match=r"different temperatures, 0\.7 and 1; record both at one"):
        rollout.ratios(compare_documents(*sides))
    assert verdict(compare_documents(*sides)[0])  # the words of a comparison need no ratio


def test_unknown_log_probabilities_leave_figures_unknown() -> None:
    values = measures(*compare_documents([document(ROLLOUT)], [document(TRAINER)]))
    assert all(math.isnan(values[name]) for name in ("k1", "k3", "ratio-share", "probability-difference"))
    assert rollout.to_json(compare_documents([document(ROLLOUT)], [document(TRAINER)]))["figures"][4]["value"] is None


def test_rows_that_one_side_fell_back_on_are_counted_not_compared() -> None:
    live = [[[-1, -1], [-1, -1]], *ROLLOUT[1:]]
    comparisons = compare_documents([document(live)], [document(TRAINER)])
    assert rollout.ratios(comparisons)["split-share"].sizes_D.tolist() == [6]
    assert "did not record all their experts: 2." in " ".join(rollout.about_documents(comparisons))


# --- several documents ------------------------------------------------------------------------------------------------


def many(other: Any, number: int = FEWEST) -> list[Comparison]:
    names = [str(index) for index in range(number)]
    second = [document(other if index % 2 else ROLLOUT, name=name) for index, name in enumerate(names)]
    return compare_documents([document(ROLLOUT, name=name) for name in names], second)


def test_intervals_are_over_documents_and_need_twenty() -> None:
    (row, *_) = rollout.figure_rows(many(TRAINER))
    assert row["value"] == 3 / 16
    reach = 2.0930 * math.sqrt(20 / 19 * 20 * 1.5**2) / 160  # residuals of +-1.5 differing choices
    assert (row["low"], row["high"]) == pytest.approx((3 / 16 - reach, 3 / 16 + reach), abs=1e-4)
    assert math.isnan(rollout.figure_rows(many(TRAINER, FEWEST - 1))[0]["low"])


def test_a_repeat_tells_noise_from_a_fault() -> None:
    verdicts = {row["figure"]: row["verdict"] for row in rollout.noise_rows(many(TRAINER), many(ROLLOUT))}
    assert verdicts["split-share"] == "beyond noise"
    assert verdicts["k3"] == "not known"
    same = rollout.noise_rows(many(TRAINER), many(TRAINER))
    assert {(row["verdict"], row["difference"]) for row in same if row["figure"] != "k3"} >= {("within noise", 0.0)}
    few = rollout.noise_rows(many(TRAINER, 2), many(ROLLOUT, 2))[0]
    assert (few["verdict"], few["difference"]) == ("no interval", 3 / 16)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(0, 9)), min_size=FEWEST, max_size=40))
def test_a_paired_difference_is_that_of_the_ratios(rows: list[tuple[int, int, int]]) -> None:
    parts, sizes, others = (np.array(column) for column in zip(*rows, strict=True))
    difference, low, high = paired_difference(parts, sizes, others, sizes)
    assert difference == pytest.approx((parts.sum() - others.sum()) / sizes.sum())
    assert low <= difference <= high
    assert paired_difference(parts, sizes, parts, sizes) == (0, 0, 0)


def test_documents_are_paired_by_name() -> None:
    first = [document(ROLLOUT, name="x"), document(TRAINER, name="y")]
    assert measures(*compare_documents(first, first[::-1]))["split-share"] == 0


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        ([document(TRAINER, name="two")], r"only one of the tables has the document one \(2 in all\)"),
        ([document(TRAINER[:3])], "document one has 4 tokens on one side and 3 on the other"),
        ([document(TRAINER, ids=[10, 11, 99, 13])], r"other tokens from token 2 on \(12 and 99\)"),
        ([document(TRAINER, name=""), document(TRAINER, name="")], "the tables hold 1 and 2 documents"),
        ([document([row[:1] for row in TRAINER])], "do not have the same MoE layers"),
    ],
)
def test_documents_that_do_not_match_are_refused(second: list[Document], complaint: str) -> None:
    first = [document(ROLLOUT), *([document(ROLLOUT, name="b")] if "layers" in complaint else [])]
    second = [*second, *([document(ROLLOUT, name="b")] if "layers" in complaint else [])]
    with pytest.raises(CompareError, match=complaint):
        rollout.layer_rows(compare_documents(first, second))


def test_physical_ids_are_refused() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([[rng.permutation(8)[:2] for _ in range(2)] for _ in range(64)])
    with pytest.raises(CompareError, match=r"number the experts of L0 to L1 differently \(physical ids"):
        compare_documents([document(rows)], [document((rows + 3) % 8)])
