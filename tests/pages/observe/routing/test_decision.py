"""The gate microscope: words, equations and tables of one decision, and the page that shows them."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.trace.decision import Decision
from pages.common.menu import page_path
from pages.observe.routing import decision
from tests.model.trace.test_decision import gate
from tests.pages.conftest import charts, said
from tests.pages.observe.routing.traces import (
    knocked_out,
    losers,
    softmax_trace,
)
from tests.traces import family_trace, random_trace

PAGE = page_path("routing")


def test_decision_in_words() -> None:
    words = decision.because(Decision.of(gate(), 0, 3), losers(gate()))
    assert words == (
        "Groups 1, 3 were kept, the last of them by a margin of 0.1. E2 has the largest affinity, 0.6. E3 was the last "
        "one chosen, by a margin of 0.05. E0 lost only to the bias. E0 lost only to the group limit."
    )


def test_near_tie_is_marked_and_explained() -> None:
    scores, weights = (0.9, 0.1, 0.6, 0.452, 0.8, 0.05, 0.3, 0.2), (1.109467, 0.835799, 0.554734)
    close = gate(scores, group_score=(1.0, 1.052, 0.55, 1.15), weights=weights, dtype="bfloat16")
    found = Decision.of(close, 0, 3)
    assert "E3 was the last one chosen, by a margin of 0.002 :orange-badge[near tie]." in decision.because(found, {})
    (why,) = decision.reservations(found, "bfloat16")
    assert "near if it can vanish when every logit moves by up to 3 % of the standard deviation" in why
    assert decision.reservations(Decision.of(gate(), 0, 3), "float32") == []
    (unknown,) = decision.reservations(Decision.of(gate(dtype="int4"), 0, 3), "int4")
    assert "near ties are not marked" in unknown


def test_choice_against_the_scores_is_said() -> None:
    found = Decision.of(gate(chosen=(2, 3, 7)), 0, 3)
    assert any("do not give the recorded choice" in said for said in decision.reservations(found, ""))


def latex(app: AppTest) -> str:
    return " ".join(element.value for element in app.latex)


def test_page_reads_the_decision_step_by_step(show: Callable[..., AppTest]) -> None:
    trace = random_trace(seed=9, num_prompt=5, num_new=9)
    expert = int(trace.data["expert_id"].sel(moe_layer=2)[4, 0])
    app = show(token=4, layer=2)
    assert f"L2E{expert} step by step: chosen" in said(app)
    assert len(app.latex) == 7
    assert f"s_{{{expert}}}" in latex(app)
    figure = charts(app)[1]
    assert [note["text"][0] for note in figure["layout"]["annotations"]] == ["1", "2", "3", "4", "6", "7"]
    assert "normalised" in app.dataframe[-1].value.columns


def test_page_follows_the_chosen_expert(show: Callable[..., AppTest]) -> None:
    trace = random_trace(seed=9, num_prompt=5, num_new=9)
    idle = min(set(range(8)) - set(trace.data["expert_id"].sel(moe_layer=2)[4].values.tolist()))
    app = show(token=4, layer=2, expert=idle)
    assert f"L2E{idle} step by step: not chosen" in said(app)
    assert "computes nothing for this token" in said(app)


def test_page_of_a_softmax_router(show: Callable[..., AppTest]) -> None:
    app = show(softmax_trace(), token=4, layer=2)
    assert "minus a constant" in charts(app)[1]["layout"]["annotations"][0]["text"]
    assert "This router has no bias" in said(app)
    assert r"\ln s_" in latex(app)
    assert r"\ne" not in latex(app)
    assert "normalised" not in app.dataframe[-1].value.columns


def test_page_of_a_changed_layer(show: Callable[..., AppTest]) -> None:
    app = show(knocked_out(random_trace(), 2, 3), token=4, layer=2)
    assert "This run was changed in L2." in said(app)
    assert "the last of them by" not in said(app)
    assert "This run was changed in L1." not in said(show(knocked_out(random_trace(), 2, 3), token=4, layer=1))


def test_page_of_a_trace_without_scores(show: Callable[..., AppTest]) -> None:
    trace = random_trace()
    data = trace.data.drop_vars(["router_score", "expert_bias"]).copy(deep=True)
    app = show(dataclasses.replace(trace, data=data))
    assert "but not the scores that decided it" in said(app)
    assert not app.latex
    assert not app.exception


def test_page_of_a_trace_without_groups_and_weights(show: Callable[..., AppTest]) -> None:
    trace = random_trace()
    data = trace.data.drop_vars(["group_score", "group_kept", "gate_weight"]).copy(deep=True)
    app = show(dataclasses.replace(trace, data=data), token=4, layer=2)
    assert not app.exception
    assert "The trace does not hold the weights." in said(app)


@pytest.mark.parametrize(("dtype", "doubts"), [("float32", 1), ("bfloat16", 0)])
def test_router_that_computes_in_bfloat16_is_not_doubted_for_its_roundings(dtype: str, doubts: int) -> None:
    trace = family_trace(seed=3)
    data = trace.data.assign(gate_weight=trace.data["gate_weight"] * np.float32(1.01))
    found = Decision.of(dataclasses.replace(trace, data=data, origin=dict(trace.origin) | {"dtype": dtype}), 4, 1)
    words = decision.reservations(found, dtype)
    assert len([sentence for sentence in words if "weights differ" in sentence]) == doubts
