"""The decision of one layer: a mark per expert in every step."""

import numpy as np

from model.trace.decision import Decision
from tests.reports import Reader
from tests.traces import family_trace, random_trace
from viz.report.decision import steps


def test_panels_hold_the_decisions_numbers() -> None:
    decision = Decision.of(random_trace(), 4, 2)
    page = Reader(steps(decision.experts, decision.rule, {}))
    for name in ("affinity", "biased"):
        found = {int(mark.data("expert")): float(mark.data(name)) for mark in page.with_data(name)}
        assert np.allclose([found[expert] for expert in range(8)], decision.experts[name].values, rtol=1e-4)
    weights = {int(mark.data("expert")) for mark in page.with_data("weight")}
    assert weights == set(decision.chosen.tolist())
    squares = {int(mark.data("expert")) for mark in page.with_data("biased") if mark.tag == "rect"}
    assert squares == set(decision.chosen.tolist())


def test_the_dashed_line_is_at_the_lowest_selected_score() -> None:
    decision = Decision.of(random_trace(), 4, 2)
    page = Reader(steps(decision.experts, decision.rule, {}))
    (cut,) = page.all("line", class_="dashed")
    marks = [mark for mark in page.with_data("biased") if mark.tag == "rect"]
    lowest = min(marks, key=lambda mark: float(mark.data("biased")))
    middle = float(lowest.attributes["y"]) + float(lowest.attributes["height"]) / 2
    assert np.isclose(float(cut.attributes["y1"]), middle, atol=0.05)


def test_no_score_is_drawn_where_a_table_gives_the_experts() -> None:
    decision = Decision.of(random_trace(), 4, 2)
    page = Reader(steps(decision.experts, decision.rule, {}, by_table=True))
    assert page.with_data("biased") == page.all("line", class_="dashed") == []
    assert "2 gate weight of the chosen experts" in [words.text for words in page.all("text")]


def test_affinities_below_zero_hang_down() -> None:
    experts = Decision.of(family_trace(), 4, 1).experts
    page = Reader(steps(experts.assign(affinity=-experts["affinity"]), Decision.of(family_trace(), 4, 1).rule, {}))
    tops = {round(float(bar.attributes["y"]), 2) for bar in page.with_data("affinity")}
    assert tops == {22.0}
