"""The experiments that a router does not allow, and what the others mean in a layer with a table of experts."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.router_rule import IDENTITY, RouterRule
from pages.common.menu import page_path
from pages.intervene.counterfactual import choices
from tests.pages.conftest import said
from tests.traces import QWEN3, V4, family_trace, random_trace

PAGE = page_path("counterfactual")
PROBABILITIES = RouterRule(num_experts=8, top_k=2, scoring=IDENTITY, has_selection_bias=False)


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (QWEN3, {choices.GROUP, choices.BIAS_OFF, choices.GROUP_LIMIT_OFF}),
        (V4, {choices.GROUP, choices.GROUP_LIMIT_OFF}),
        (PROBABILITIES, {choices.GROUP, choices.BIAS_OFF, choices.GROUP_LIMIT_OFF, choices.TEMPERATURE}),
        (None, set(choices.QUESTIONS) - {choices.KNOCK_OUT, choices.REPLAY}),
    ],
)
def test_a_router_lacks_what_its_rule_has_not(rule: RouterRule | None, names: set[str]) -> None:
    assert set(choices.lacking(family_trace(rule))) == names


def test_the_rule_of_v3_allows_everything() -> None:
    assert choices.lacking(random_trace()) == {}


def test_a_link_to_an_experiment_that_the_router_does_not_allow_says_why(show_at: Callable[..., AppTest]) -> None:
    app = show_at(family_trace(QWEN3), what=choices.BIAS_OFF)
    assert not app.exception
    assert "Bias off is not possible here: this router has no bias." in said(app)
    assert choices.BIAS_OFF not in app.selectbox(key="what").options
    assert choices.QUESTIONS[choices.KNOCK_OUT] in said(app)


def test_a_layer_with_a_table_says_what_a_change_means() -> None:
    trace = family_trace(V4, table_layers=(0,))
    assert choices.reservation(trace, choices.KNOCK_OUT, 1) is None
    assert "nothing replaces" in str(choices.reservation(trace, choices.KNOCK_OUT, 0))
    assert "cannot be changed there" in str(choices.reservation(trace, choices.FORCE, 0))
    assert choices.reservation(trace, choices.REPLAY, 0) is None
    unknown = choices.reservation(family_trace(None), choices.KNOCK_OUT, 1)
    assert unknown is not None
    assert "keeps its place" in unknown
