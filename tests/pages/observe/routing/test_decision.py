"""The gate microscope: words, equations and tables of one decision, and the page that shows them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.trace.decision import Decision
from model.trace.router_rule import SCORINGS
from model.trace.trace import Trace
from pages.common import routing_tables
from pages.common.menu import page_path
from pages.observe.routing import steps as microscope_steps
from pages.observe.routing import tables
from tests.model.trace.test_decision import gate, softmax_gate
from tests.pages.conftest import charts, said
from tests.traces import random_trace

PAGE = page_path("routing")
LOGIT, AFFINITY, BIAS, GROUP, KEPT, PLACE, WEIGHT = range(7)


def steps(trace: Trace, expert: int) -> list[microscope_steps.Step]:
    return microscope_steps.steps(Decision.of(trace, 0, 3), expert)


def equations(trace: Trace, expert: int) -> list[str]:
    return [step.equation for step in steps(trace, expert)]


def losers(trace: Trace) -> dict[str, Any]:
    return {name: mask.sel(moe_layer=3) for name, mask in routing_tables.losers(trace, 0).items()}


def knocked_out(trace: Trace, layer: int, expert: int) -> Trace:
    changes = [{"kind": "KnockOut", "layer": layer, "expert": expert}]
    return dataclasses.replace(trace, request=dict(trace.request) | {"interventions": changes})


def softmax_trace() -> Trace:
    """A run of a V2: affinities sum to 1, no bias, groups judged by their best."""
    trace = random_trace(seed=9, num_prompt=5, num_new=9)
    data = trace.data.copy(deep=True)
    data["router_score"] /= data["router_score"].sum("expert")
    data["expert_bias"][:] = 0
    best = data["router_score"].values.reshape(14, 2, 4, 2).max(-1)
    kept = np.argsort(-best, -1)[..., :2]
    data["group_score"][:] = best
    data["group_kept"][:] = (kept[..., None] == np.arange(4)).any(-2)
    reachable = np.where(np.repeat(data["group_kept"].values, 2, -1), data["router_score"].values, -1)
    data["expert_id"][:] = np.argsort(-reachable, -1)[..., :2]
    data["gate_weight"][:] = 16 * np.take_along_axis(data["router_score"].values, data["expert_id"].values, -1)
    softmax = {"scoring_func": "softmax", "norm_topk_prob": False, "routed_scaling_factor": 16.0}
    config = dict(trace.model["config"]) | softmax | {"model_type": "deepseek_v2"}
    return dataclasses.replace(trace, data=data, model=dict(trace.model) | {"config": config})


def test_every_scoring_function_is_explained() -> None:
    assert set(microscope_steps.SCORINGS) == set(SCORINGS)


# --- the steps -------------------------------------------------------------------------------------------------------


def test_equations_of_a_chosen_expert() -> None:
    assert equations(gate(), 6) == [
        r"z_{6} = \ln \frac{s_{6}}{1 - s_{6}} = \ln \frac{0.3000}{1 - 0.3000} = -0.847",
        r"s_{6} = \sigma(z_{6}) = \frac{1}{1 + e^{0.847}} = 0.3000",
        r"c_{6} = s_{6} + b_{6} = 0.3000 + 0.4000 = 0.7000",
        r"G_{3} = c_{6} + c_{7} = 0.7000 + 0.4500 = 1.1500",
        r"G_{3} = 1.1500 \;>\; 1.0000 = G_{0} \quad (+0.15)",
        r"c_{6} = 0.7000 \;>\; 0.4500 = c_{7} \quad (+0.25)",
        r"\begin{aligned} \textstyle\sum s_j &= 0.3000 + 0.6000 + 0.5000 = 1.4000 \\ "
        r"g_{6} &= 2.5 \cdot \frac{s_{6}}{\sum s_j} = 2.5 \cdot \frac{0.3000}{1.4000} = 0.5357 \end{aligned}",
    ]
    assert "number 1 of 3" in steps(gate(), 6)[PLACE].says
    assert "(0.2143, derived)" in steps(gate(), 6)[WEIGHT].says
    assert "mean bias is 0.0437" in steps(gate(), 6)[BIAS].says
    assert [step.tag for step in steps(gate(), 6)] == ["derived", "measured", "derived"] + ["measured"] * 4


def test_equations_of_an_expert_that_lost_in_the_contest() -> None:
    found = steps(gate(), 7)
    assert found[PLACE].equation == r"c_{7} = 0.4500 \;<\; 0.5000 = c_{3} \quad (-0.05)"
    assert "the last to get in was E3" in found[PLACE].says
    assert (found[WEIGHT].equation, "computes nothing" in found[WEIGHT].says) == ("", True)


def test_equations_of_an_expert_whose_group_was_dropped() -> None:
    found = steps(gate(), 4)
    assert found[BIAS].equation == r"c_{4} = s_{4} + b_{4} = 0.8000 - 0.3000 = 0.5000"
    assert found[KEPT].equation == r"G_{2} = 0.5500 \;<\; 1.1000 = G_{1} \quad (-0.55)"
    assert "E4 is not in the contest" in found[PLACE].says


def test_equations_of_a_softmax_gate() -> None:
    found = equations(softmax_gate(), 2)
    assert found[LOGIT] == r"\ln s_{2} = z_{2} - \ln \textstyle\sum_j e^{z_j} = \ln 0.2800 = -1.273"
    assert found[AFFINITY] == r"s_{2} = \frac{e^{z_{2}}}{\sum_j e^{z_j}} = 0.2800"
    assert found[BIAS] == "c_{2} = s_{2} = 0.2800"
    assert found[GROUP] == r"G_{1} = \max_{j \in g} c_j = c_{2} = 0.2800"
    assert found[WEIGHT] == r"g_{2} = 16 \cdot s_{2} = 16 \cdot 0.2800 = 4.4800"
    assert "up to a constant" in steps(softmax_gate(), 2)[LOGIT].says


def test_equation_that_does_not_hold_is_not_written_as_one() -> None:
    wrong = gate(weights=(0.8333333, 0.6944444, 0.9722222))  # taken from biased scores
    assert equations(wrong, 6)[WEIGHT].endswith(r"\ne 0.9722 \end{aligned}")
    (warning,) = tables.reservations(Decision.of(wrong, 0, 3), "float32")
    assert "weights differ from those that the affinities give by up to 45%" in warning


def test_unknown_factor_leaves_the_recorded_weight() -> None:
    assert equations(gate(routed_scaling_factor=None), 6)[WEIGHT] == "g_{6} = 0.5357"


def test_affinity_that_was_rounded_to_one() -> None:
    found = steps(gate((0.9, 0.1, 1.0, 0.5, 0.8, 0.05, 0.3, 0.2)), 2)
    assert (found[LOGIT].equation, "rounded to 1" in found[LOGIT].says) == ("", True)
    assert found[AFFINITY].equation == r"s_{2} = \sigma(z_{2}) = 1.0000"


def test_changed_layer_compares_nothing() -> None:
    found = steps(knocked_out(gate(), 3, 0), 6)
    assert [found[step].equation for step in (GROUP, KEPT, PLACE)] == ["G_{3} = 1.1500", "", ""]
    assert found[WEIGHT].equation == "g_{6} = 0.5357"


# --- words and table -------------------------------------------------------------------------------------------------


def test_decision_in_words() -> None:
    words = tables.because(Decision.of(gate(), 0, 3), losers(gate()))
    assert words == (
        "Groups 1, 3 were kept, the last of them by 0.1. E2 counts most, with an affinity of 0.6. E3 was the last to "
        "get in, by 0.05. E0 lost only to the bias. E0 lost only to the group limit."
    )


def test_near_tie_is_marked_and_explained() -> None:
    scores, weights = (0.9, 0.1, 0.6, 0.452, 0.8, 0.05, 0.3, 0.2), (1.109467, 0.835799, 0.554734)
    close = gate(scores, group_score=(1.0, 1.052, 0.55, 1.15), weights=weights, dtype="bfloat16")
    found = Decision.of(close, 0, 3)
    assert "E3 was the last to get in, by 0.002 :orange-badge[near tie]." in tables.because(found, {})
    (why,) = tables.reservations(found, "bfloat16")
    assert "Margins up to 0.005 count as near" in why
    assert tables.reservations(Decision.of(gate(), 0, 3), "float32") == []
    (unknown,) = tables.reservations(Decision.of(gate(dtype="int4"), 0, 3), "int4")
    assert "near ties are not marked" in unknown


def test_choice_against_the_scores_is_said() -> None:
    found = Decision.of(gate(chosen=(2, 3, 7)), 0, 3)
    assert any("not the one that the recorded scores give" in said for said in tables.reservations(found, ""))


def test_softmax_has_no_losers_to_a_bias() -> None:
    assert not any(mask.any() for name, mask in losers(softmax_gate()).items() if "bias" in name)


def test_table_has_every_step() -> None:
    table = tables.table(Decision.of(gate(), 0, 3), losers(gate())).set_index("expert")
    assert table.index[:3].tolist() == ["E6", "E2", "E3"]
    assert table["weight"].loc["E6"] == pytest.approx(0.5357143)
    assert table["normalised"].loc["E6"] == pytest.approx(0.3 / 1.4)
    assert table["verdict"].loc["E0"] == routing_tables.LOST_TO_EITHER
    assert table["group score"].tolist() == pytest.approx([1.15, 1.1, 1.1, 1.0, 0.55, 1.15, 1.0, 0.55])
    assert np.allclose(table["affinity"] + table["bias"], table["with bias"])
    assert table["bias - mean"].sum() == pytest.approx(0, abs=1e-6)


def test_near_the_cut_are_the_chosen_the_losers_and_the_expert_in_focus() -> None:
    table = tables.table(Decision.of(gate(), 0, 3), losers(gate()))
    assert tables.nearest(table, 5, others=1)["expert"].tolist() == ["E6", "E2", "E3", "E0", "E4", "E5"]


# --- the page --------------------------------------------------------------------------------------------------------


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
    assert "less a constant" in charts(app)[1]["layout"]["annotations"][0]["text"]
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
