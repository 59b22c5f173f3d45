import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.trace import Token, Trace
from pages.common.menu import page_path
from pages.observe.routing.tabs import DECISION, EXPERT, TOGETHER
from tests.pages.conftest import charts, said
from tests.pages.fakes import FakeEngine
from tests.pages.observe.routing.traces import (
    imported,
    names,
    without,
)
from tests.traces import QWEN3, V4, family_trace, random_trace
from viz.routing import LOST_TO_BIAS, LOST_TO_GROUP

OpenApp = Callable[..., AppTest]
PAGE = page_path("routing")


def test_first_screen_explains_the_newest_token_of_the_recorded_run(
    show: Callable[..., AppTest], engine: FakeEngine
) -> None:
    app = show()
    path, decision = charts(app)
    assert names(path) == ["kept group", "chosen (outlined: largest weight)", LOST_TO_BIAS, LOST_TO_GROUP]
    assert "with the mean bias" in names(decision)
    assert ":gray-badge[recorded]" in said(app)
    assert "has the largest affinity" in said(app)
    assert app.number_input(key="token").placeholder == "13"
    assert engine.requests == []


def test_link_restores_token_layer_and_expert(open_app: OpenApp) -> None:
    app = open_app(token="4", layer="2", expert="6", part=EXPERT).switch_page(PAGE).run()
    assert (app.number_input(key="token").value, app.selectbox(key="layer").value) == (4, 2)
    assert app.number_input(key="expert").value == 6
    assert not app.exception


def test_only_the_open_tab_is_drawn(show: Callable[..., AppTest]) -> None:
    assert [len(charts(show(part=part))) for part in (DECISION, TOGETHER, EXPERT)] == [2, 4, 3]


def test_sort_of_tokens_that_the_run_lacks(show: Callable[..., AppTest]) -> None:
    app = show(random_trace(num_new=0), part=TOGETHER, tokens="generated")
    assert "No token of this run is of that kind" in said(app)


def test_trace_without_router_variables_says_what_to_capture(show: Callable[..., AppTest]) -> None:
    app = show(without(random_trace(), "expert_id", "gate_weight"))
    assert "--capture router" in said(app)
    assert not charts(app)


def test_imported_trace_without_router_variables_says_where_the_reason_is(show: Callable[..., AppTest]) -> None:
    app = show(without(imported(random_trace()), "expert_id"))
    assert "was imported and does not hold the chosen experts" in said(app)
    assert not charts(app)


@pytest.mark.parametrize("part", [DECISION, TOGETHER, EXPERT])
def test_trace_without_text(show: Callable[..., AppTest], part: str) -> None:
    trace = random_trace()
    tokens = tuple(Token(token.id, "", 0, 0, token.generated) for token in trace.tokens)
    app = show(dataclasses.replace(trace, tokens=tokens, text=b""), part=part, layer=1, token=1)
    assert not app.exception
    assert any(f"#{tokens[1].id}" in button.label for button in app.button)


def test_no_trace_at_all(open_app: OpenApp, recorded: Path) -> None:
    (recorded / "story.safetensors").unlink()
    app = open_app().switch_page(PAGE).run()
    assert "Nothing was run yet" in said(app)


@pytest.mark.parametrize(
    ("trace", "part"),
    [
        (family_trace(QWEN3), DECISION),
        (family_trace(V4, table_layers=(0, 1)), DECISION),
        (family_trace(None), DECISION),
        (family_trace(None), EXPERT),
    ],
    ids=["plain", "by table", "unknown rule", "one expert of an unknown rule"],
)
def test_router_of_any_family_is_shown_as_far_as_it_is_known(show: OpenApp, trace: Trace, part: str) -> None:
    app = show(trace, part=part, layer=1, token=4)
    words = said(app)
    assert not app.exception
    assert "does not hold" not in words
    assert ("rule by which this router" in words) is (trace.router is not None and trace.router.rule is None)
    if part == DECISION and trace.router and trace.router.rule:
        by_table = 1 in trace.router.table_layers
        assert ("a table gives the experts of each token id" in words) is by_table
        assert ("was the last one chosen, by a margin of" in words) is not by_table
