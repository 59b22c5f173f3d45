import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.trace.observed_rule import rule_of
from model.trace.trace import Token, Trace
from pages.common import routing_tables, text
from pages.common.menu import page_path
from pages.observe.routing import expert_tokens
from pages.observe.routing.tabs import DECISION, EXPERT, TOGETHER
from tests.pages.conftest import charts, said
from tests.pages.fakes import FakeEngine
from tests.traces import random_trace
from viz.routing import LOST_TO_BIAS, LOST_TO_GROUP

OpenApp = Callable[..., AppTest]
PAGE = page_path("routing")


def names(chart: dict[str, Any]) -> list[str]:
    return [part["name"] for part in chart["data"] if "name" in part]


def without(trace: Trace, *variables: str, **changed: Any) -> Trace:
    data = trace.data.drop_vars([*variables]).copy(deep=True)
    return dataclasses.replace(trace, data=data, **changed)


def changed(trace: Trace, *interventions: dict[str, Any]) -> Trace:
    return dataclasses.replace(trace, request=dict(trace.request) | {"interventions": list(interventions)})


def imported(trace: Trace) -> Trace:
    """Ids alone, as a serving engine gives them."""
    kept = without(trace, "router_score", "expert_bias", "group_score", "group_kept", "gate_weight", "attention")
    return dataclasses.replace(kept, origin=dict(trace.origin) | {"kind": "imported"})


def with_idle_expert(seed: int = 3) -> tuple[Trace, int]:
    """A short trace, and an expert of layer 1 that took none of its tokens."""
    trace = random_trace(seed, num_prompt=2, num_new=0)
    idle = set(range(8)) - set(trace.data["expert_id"].sel(moe_layer=1).values.ravel().tolist())
    return trace, min(idle)


def test_first_screen_explains_the_newest_token_of_the_recorded_run(
    show: Callable[..., AppTest], engine: FakeEngine
) -> None:
    app = show()
    path, decision = charts(app)
    assert names(path) == ["kept group", "chosen (outlined: largest weight)", LOST_TO_BIAS, LOST_TO_GROUP]
    assert "with the mean bias" in names(decision)
    assert ":gray-badge[recorded]" in said(app)
    assert "counts most, with an affinity of" in said(app)
    assert app.number_input(key="token").placeholder == "13"
    assert engine.requests == []


def test_link_restores_token_layer_and_expert(open_app: OpenApp) -> None:
    app = open_app(token="4", layer="2", expert="6", part=EXPERT).switch_page(PAGE).run()
    assert (app.number_input(key="token").value, app.selectbox(key="layer").value) == (4, 2)
    assert app.number_input(key="expert").value == 6
    assert not app.exception


def test_only_the_open_tab_is_drawn(show: Callable[..., AppTest]) -> None:
    assert [len(charts(show(part=part))) for part in (DECISION, TOGETHER, EXPERT)] == [2, 4, 3]


def clicked_page() -> None:
    import streamlit as st

    from pages.common import controls

    for key in ("array", "list", "beside"):
        controls._take_click(key, ("layer", "expert"))  # pyright: ignore[reportPrivateUsage]
        st.write(f"{key}: {st.session_state.get('layer')} {st.session_state.get('expert')}")


def test_a_clicked_cell_chooses_layer_and_expert() -> None:
    """AppTest cannot click a figure; this is what the browser sends."""
    app = AppTest.from_function(clicked_page)
    cells = {"array": {"0": 2, "1": 5, "2": 0.5}, "list": [1, 4]}
    for key, cell in cells.items():
        app.session_state[key] = {"selection": {"points": [{"customdata": cell}]}}
    app.session_state["beside"] = {"selection": {"points": []}}
    app.run()
    assert [element.value for element in app.markdown] == ["array: 2 5", "list: 1 4", "beside: 1 4"]


def test_neighbours_are_buttons_that_choose(show: Callable[..., AppTest]) -> None:
    app = show(token=3)
    app.button(key="token-row-5-generated").click().run()
    assert app.number_input(key="token").value == 5
    assert not app.exception


def test_expert_is_told_by_its_tokens(show: Callable[..., AppTest]) -> None:
    app = show(part=EXPERT, layer=1, expert=2)
    (count,) = [metric.value for metric in app.metric if metric.label == "Tokens of L1E2"]
    trace = random_trace(seed=9, num_prompt=5, num_new=9)
    assert count == f"{(trace.data['expert_id'].sel(moe_layer=1).values == 2).sum()} of 14"


def test_expert_that_no_token_took(show: Callable[..., AppTest]) -> None:
    trace, idle = with_idle_expert()
    app = show(trace, part=EXPERT, layer=1, expert=idle)
    assert f"None of these 2 tokens went to L1E{idle}." in said(app)
    assert "Fair routing of so many would leave about" in said(app)
    assert "highest affinity" in said(app)
    assert len(charts(app)) == 1


def test_sort_of_tokens_that_the_run_lacks(show: Callable[..., AppTest]) -> None:
    app = show(random_trace(num_new=0), part=TOGETHER, tokens="generated")
    assert "No token of this run is of that sort" in said(app)


def test_last_layer_shows_how_it_was_reached(show: Callable[..., AppTest]) -> None:
    onward = charts(show(part=TOGETHER, layer=2))[2]
    assert onward["layout"]["yaxis"]["title"]["text"] == "expert, L1"


@pytest.mark.parametrize("part", [DECISION, TOGETHER, EXPERT])
def test_model_with_one_mixture_layer(show: Callable[..., AppTest], part: str) -> None:
    app = show(random_trace(num_layers=2), part=part)
    assert not app.exception


@pytest.mark.parametrize("part", [DECISION, TOGETHER, EXPERT])
def test_imported_ids_are_shown_as_far_as_they_go(show: Callable[..., AppTest], part: str) -> None:
    app = show(imported(random_trace()), part=part)
    assert names(charts(app)[0]) == ["chosen (weights unknown)"]
    assert "does not hold affinities, the bias, the kept groups, weights" in said(app)


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


def test_interventions_are_said_and_hide_what_describes_the_trained_model(show: Callable[..., AppTest]) -> None:
    trace = random_trace(seed=9, num_prompt=5, num_new=9)
    free = routing_tables.losers(trace, 13)
    knocked = changed(trace, {"kind": "KnockOut", "layer": 1, "expert": 3})
    app = show(knocked, layer=1)
    assert "This run was changed: L1E3 knocked out." in said(app)
    assert "was the last to get in" not in said(app)
    held = routing_tables.losers(knocked, 13)
    assert not any(mask.sel(moe_layer=1).any() for mask in held.values())
    assert all((held[name].sel(moe_layer=2) == free[name].sel(moe_layer=2)).all() for name in free)


def test_no_trace_at_all(open_app: OpenApp, recorded: Path) -> None:
    (recorded / "story.safetensors").unlink()
    app = open_app().switch_page(PAGE).run()
    assert "Nothing was run yet" in said(app)


# --- tables ----------------------------------------------------------------------------------------------------------


def test_pairs_stand_beside_what_fair_routing_gives() -> None:
    trace = random_trace(num_prompt=30)
    counts = routing_tables.routing.shared_tokens(trace.data["expert_id"].sel(moe_layer=[1]), 8).isel(moe_layer=0)
    table = routing_tables.pairs(counts, rule_of(trace))
    assert table["tokens"].sum() == 2 * trace.num_tokens
    assert (table["share"] == table["tokens"] / table["of"]).all()
    assert (table["low (95 %)"] < table["share"]).all()
    assert ((table["high (95 %)"] > table["share"]) | (table["share"] == 1)).all()
    together = table["expert"] // 2 == table["also went to"] // 2
    assert set(table["fair share"][together]) <= {1 / 3}
    assert set(table["fair share"][~together]) == {1 / 3 * (1 / 3)}


def spelled(*pieces: str) -> Trace:
    """A trace of these tokens after the first, which is special."""
    trace, text, tokens = random_trace(num_prompt=len(pieces) + 1, num_new=0), b"", []
    tokens.append(trace.tokens[0])
    for piece in pieces:
        tokens.append(Token(1, piece, len(text), len(text) + len(piece.encode()), False))
        text += piece.encode()
    ids = np.array([token.id for token in tokens], np.int32)
    data = trace.data.assign(token_id=(("token",), ids)).copy(deep=True)
    return dataclasses.replace(trace, data=data, tokens=tuple(tokens), text=text)


def test_kinds_of_tokens() -> None:
    trace = spelled("On", "ce", " upon", "7", ",", "\n", "The", "é", "—", " ", "(b", "b")
    kinds = [expert_tokens.kind(trace, index) for index in range(trace.num_tokens)]
    word, part = "begins a word", "goes on a word"
    assert kinds[:7] == ["special", word, part, word, "number", "punctuation", "white space"]
    assert kinds[7:] == [word, part, "punctuation", "white space", "punctuation", part]


def test_context_shows_white_space() -> None:
    trace = spelled("Once", " upon", " a", "\n", "time")
    assert expert_tokens.context(trace, 3, reach=1) == ("·upon", "⏎")
    assert expert_tokens.context(trace, 1, reach=3) == ("", "·upon·a⏎")


def test_shares_of_kinds_sum_to_the_tokens_taken() -> None:
    trace = random_trace(num_prompt=30)
    every = trace.prompt_mask | True
    shares = expert_tokens.shares(trace, 1, 3, every).set_index("tokens that are")
    kinds = [kind for kind in expert_tokens.KINDS if kind in shares.index]
    assert shares.loc[kinds, "taken"].sum() == shares.loc["all", "taken"]
    assert shares.loc[kinds, "of"].sum() == shares.loc["all", "of"] == trace.num_tokens
    assert shares.loc["all", "taken"] == len(expert_tokens.taken_by(trace, 1, 3, every))
    assert (shares["low (95 %)"] <= shares["share"]).all()


def test_row_of_tokens_marks_special_and_generated_ones(show: Callable[..., AppTest]) -> None:
    buttons = [button for button in show(token=5).button if str(button.key).startswith("token-row-")]
    keys = [button.key for button in buttons]
    assert "｜" not in buttons[0].label
    assert keys == ["token-row-0-special", *(f"token-row-{i}" for i in range(1, 5)),
                    *(f"token-row-{i}-generated" for i in range(5, 13))]  # fmt: skip


@pytest.mark.parametrize("piece", ["<b>", "a`b", "``", "*x*", ":smile:", "$1$", "->"])
def test_token_on_a_button_is_only_text(piece: str) -> None:
    code = text.as_code(piece)
    fence = code[: len(code) - len(code.lstrip("`"))]
    assert code.startswith(fence)
    assert code.endswith(fence)
    assert fence not in code[len(fence) : -len(fence)]
    assert code.strip("`").strip(" ") == piece.strip("`") or piece == "``"
