import dataclasses
from typing import Any

import numpy as np
import pytest

from model.trace.decision import Decision
from model.trace.router_rule import IDENTITY, SCORINGS, RouterRule
from model.trace.trace import Trace
from pages.observe.routing import decision, tables
from pages.observe.routing import steps as decision_steps
from tests.model.trace.test_decision import gate, softmax_gate
from tests.pages.observe.routing.traces import knocked_out
from tests.traces import QWEN3, V4, family_trace

LOGIT, AFFINITY, BIAS, GROUP, KEPT, PLACE, WEIGHT = range(7)


def steps(trace: Trace, expert: int) -> list[decision_steps.Step]:
    return decision_steps.steps(Decision.of(trace, 0, 3), expert)


def equations(trace: Trace, expert: int) -> list[str]:
    return [step.equation for step in steps(trace, expert)]


def test_every_scoring_function_is_explained() -> None:
    assert set(decision_steps.SCORINGS) == set(SCORINGS)


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
    assert "number 1 of 3" in steps(gate(), 6)[PLACE].text
    assert "a share of 0.2143 (derived)" in steps(gate(), 6)[WEIGHT].text
    assert "mean bias is 0.0437" in steps(gate(), 6)[BIAS].text
    assert [step.tag for step in steps(gate(), 6)] == ["derived", "measured", "derived"] + ["measured"] * 4


def test_equations_of_an_expert_that_lost_in_the_contest() -> None:
    found = steps(gate(), 7)
    assert found[PLACE].equation == r"c_{7} = 0.4500 \;<\; 0.5000 = c_{3} \quad (-0.05)"
    assert "the last one chosen was E3" in found[PLACE].text
    assert (found[WEIGHT].equation, "computes nothing" in found[WEIGHT].text) == ("", True)


def test_equations_of_an_expert_whose_group_was_dropped() -> None:
    found = steps(gate(), 4)
    assert found[BIAS].equation == r"c_{4} = s_{4} + b_{4} = 0.8000 - 0.3000 = 0.5000"
    assert found[KEPT].equation == r"G_{2} = 0.5500 \;<\; 1.1000 = G_{1} \quad (-0.55)"
    assert "E4 cannot be chosen: its group was not kept" in found[PLACE].text


def test_equations_of_a_softmax_gate() -> None:
    found = equations(softmax_gate(), 2)
    assert found[LOGIT] == r"\ln s_{2} = z_{2} - \ln \textstyle\sum_j e^{z_j} = \ln 0.2800 = -1.273"
    assert found[AFFINITY] == r"s_{2} = \frac{e^{z_{2}}}{\sum_j e^{z_j}} = 0.2800"
    assert found[BIAS] == "c_{2} = s_{2} = 0.2800"
    assert found[GROUP] == r"G_{1} = \max_{j \in g} c_j = c_{2} = 0.2800"
    assert found[WEIGHT] == r"g_{2} = 16 \cdot s_{2} = 16 \cdot 0.2800 = 4.4800"
    assert "up to a constant" in steps(softmax_gate(), 2)[LOGIT].text


def test_equation_that_does_not_hold_is_not_written_as_one() -> None:
    wrong = gate(weights=(0.8333333, 0.6944444, 0.9722222))  # taken from biased scores
    assert equations(wrong, 6)[WEIGHT].endswith(r"\ne 0.9722 \end{aligned}")
    (warning,) = decision.reservations(Decision.of(wrong, 0, 3), "float32")
    assert "weights differ by up to 45% of the largest weight from those that the affinities give" in warning


def test_unknown_factor_leaves_the_recorded_weight() -> None:
    assert equations(gate(routed_scaling_factor=None), 6)[WEIGHT] == "g_{6} = 0.5357"


def test_affinity_that_was_rounded_to_one() -> None:
    found = steps(gate((0.9, 0.1, 1.0, 0.5, 0.8, 0.05, 0.3, 0.2)), 2)
    assert (found[LOGIT].equation, "rounded to 1" in found[LOGIT].text) == ("", True)
    assert found[AFFINITY].equation == r"s_{2} = \sigma(z_{2}) = 1.0000"


def test_changed_layer_compares_nothing() -> None:
    found = steps(knocked_out(gate(), 3, 0), 6)
    assert [found[step].equation for step in (GROUP, KEPT, PLACE)] == ["G_{3} = 1.1500", "", ""]
    assert found[WEIGHT].equation == "g_{6} = 0.5357"


# --- routers of other families ---------------------------------------------------------------------------------------


def of_family(rule: RouterRule, layer: int = 1, **shape: Any) -> tuple[list[decision_steps.Step], Decision, int]:
    """Return the steps of token 4 for the expert with the largest weight, the decision, and the expert."""
    found = Decision.of(family_trace(rule, **shape), 4, layer)
    expert = int(np.nanargmax(found.experts["weight"].values))
    return decision_steps.steps(found, expert), found, expert


def test_recorded_logit_is_measured() -> None:
    found, decided, expert = of_family(QWEN3)
    assert found[LOGIT].tag == "measured"
    assert found[LOGIT].equation == f"z_{{{expert}}} = {float(decided.experts['logit'][expert]):.3f}"
    assert found[BIAS].equation.startswith(f"c_{{{expert}}} = s_{{{expert}}} = 0.")
    assert [step.name[0] for step in found] == ["1", "2", "3", "4", "5"]


def test_equations_of_v4() -> None:
    found, decided, expert = of_family(V4)
    affinity = decision_steps.number(float(decided.experts["affinity"][expert]))
    assert found[AFFINITY].equation.startswith(rf"s_{{{expert}}} = \sqrt{{\ln (1 + e^{{z_{{{expert}}}}})}} = ")
    assert found[AFFINITY].equation.endswith(affinity)
    assert "this share times 1.5" in found[-1].text


def test_logit_of_v4_is_computed_back_if_it_was_not_recorded() -> None:
    trace = family_trace(V4)
    bare = dataclasses.replace(trace, data=trace.data.drop_vars("router_logit"))
    found, recorded = Decision.of(bare, 4, 1), Decision.of(trace, 4, 1)
    first = decision_steps.steps(found, 2)[LOGIT]
    assert first.equation.startswith(r"z_{2} = \ln (e^{s_{2}^2} - 1) = ")
    assert first.tag == "derived"
    assert found.experts["logit"].values == pytest.approx(recorded.experts["logit"].values, abs=1e-4)


def test_bias_on_logits_is_added_to_the_logit() -> None:
    found, decided, expert = of_family(dataclasses.replace(V4, bias_on_logits=True))
    logit = decision_steps.number(float(decided.experts["logit"][expert]))
    assert found[BIAS].equation.startswith(f"c_{{{expert}}} = z_{{{expert}}} + b_{{{expert}}} = {logit}")


def test_experts_from_a_table_lost_and_won_by_no_score() -> None:
    found, _, expert = of_family(V4, table_layers=(1,))
    assert "A table gives the experts of each token id" in found[BIAS].text
    assert (found[-2].text, found[-2].equation) == (f"E{expert} was chosen by the token id.", "")
    assert "divided by their sum" in found[-1].text


def test_factor_of_an_expert_stands_in_its_equation() -> None:
    rule = dataclasses.replace(QWEN3, scoring=IDENTITY, has_expert_factor=True, routed_scale=2.0)
    found, decided, expert = of_family(rule)
    factor = float(decided.experts["factor"][expert])
    assert f"times the factor {factor:.4g} of E{expert} and by 2" in found[-1].text
    assert rf"2 \cdot {decision_steps.number(factor)} \cdot \frac" in found[-1].equation
    unnormalised, _, _ = of_family(dataclasses.replace(rule, normalise_weights=False, routed_scale=1.0))
    assert unnormalised[-1].text.endswith(f"times the factor {factor:.4g} of E{expert}.")


def test_choice_that_computes_nothing() -> None:
    found, _, expert = of_family(QWEN3, layer=2, idle_from=1)
    assert f"E{expert} computes nothing: with this choice the token skips an expert." in found[-1].text


def test_a_router_without_bias_and_groups_has_no_words_and_columns_for_them() -> None:
    found, decided, _ = of_family(QWEN3)
    assert "without the bias" not in found[-1].text
    assert found[-1].text.endswith("The weight is this share.")
    assert not {"group", "bias", "with bias"} & set(tables.by_expert(decided, {}).columns)
    assert "bias" in tables.by_expert(of_family(V4)[1], {}).columns
