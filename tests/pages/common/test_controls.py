import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages.common import guards, tables
from tests.traces import random_trace


def population_page() -> None:
    import streamlit as st

    from pages.common import controls
    from tests.traces import random_trace

    st.session_state["mask"] = controls.population(random_trace()).values.tolist()


@pytest.mark.parametrize(
    ("part", "special", "expected"),
    [
        ("all", True, [True] * 10),
        ("prompt", True, [True] * 6 + [False] * 4),
        ("generated", True, [False] * 6 + [True] * 4),
        ("all", False, [False] + [True] * 9),
        ("prompt", False, [False] + [True] * 5 + [False] * 4),
    ],
)
def test_population(part: str, special: bool, expected: list[bool]) -> None:
    app = AppTest.from_function(population_page)
    app.query_params["tokens"], app.query_params["special"] = part, str(special).lower()
    app.run()
    assert not app.exception
    assert app.session_state["mask"] == expected


def page_with_tabs() -> None:
    import streamlit as st

    from pages.common import controls

    st.session_state["opened"] = []
    for name, tab in controls.open_tabs(("one", "two"), "part"):
        st.session_state["opened"].append(name)
        with tab:
            st.write(f"in {name}")


def test_only_the_open_tab_is_filled() -> None:
    app = AppTest.from_function(page_with_tabs)
    app.query_params["part"] = "two"
    app.run()
    assert app.session_state["opened"] == ["two"]
    assert [[each.value for each in tab.markdown] for tab in app.tabs] == [[], ["in two"]]


def page_with_a_choice() -> None:
    import streamlit as st

    from pages.common import controls

    st.session_state["before"] = st.session_state.get("rule")
    controls.keep_within("rule", ["a", "b"])
    st.session_state["after"] = st.session_state.get("rule")


@pytest.mark.parametrize(("chosen", "kept"), [("b", "b"), ("c", None), (None, None)])
def test_choice_that_is_not_offered_is_forgotten(chosen: str | None, kept: str | None) -> None:
    app = AppTest.from_function(page_with_a_choice)
    app.session_state["rule"] = chosen
    app.run()
    assert (app.session_state["before"], app.session_state["after"]) == (chosen, kept)


def guarded_page() -> None:
    import dataclasses

    import streamlit as st

    from pages.common import guards
    from tests.traces import random_trace

    trace = random_trace()
    guards.require(dataclasses.replace(trace, data=trace.data.drop_vars("attention")), "expert_id", "attention")
    st.write("reached")


def test_guard_says_what_to_capture_and_ends_the_page() -> None:
    app = AppTest.from_function(guarded_page).run()
    assert "--capture attention" in app.info[0].value
    assert not app.markdown


def test_guard_lets_a_complete_trace_pass() -> None:
    trace = random_trace()
    assert guards.require(trace, "expert_id", "attention") is trace


def test_next_tokens_are_probabilities_with_their_logarithms() -> None:
    trace = random_trace()
    table = tables.next_tokens(trace, 3, None)
    assert table["rank"].tolist() == list(range(1, 21))
    assert table["log-probability (nat)"].tolist() == trace.data["candidate_logprob"][3].values.tolist()
    assert np.allclose(np.log(table["probability"]), table["log-probability (nat)"], atol=1e-6)
    assert table["token"][0] == f"#{trace.data['candidate_id'].values[3, 0]}"


def test_experts_of_a_token() -> None:
    trace = random_trace()
    table = tables.experts(trace, 2)
    assert table["layer"].tolist() == [1, 2]
    expert, weight = trace.data["expert_id"].values[2, 1, 0], trace.data["gate_weight"].values[2, 1, 0]
    assert table["rank 0"][1] == f"E{expert}  {weight:.2f}"


def test_routing_table_has_every_slot() -> None:
    trace = random_trace()
    table = tables.routing(trace)
    assert table.columns.tolist() == ["token", "layer", "rank", "expert", "weight"]
    assert len(table) == 10 * 2 * 2
    slot = table[(table["token"] == 4) & (table["layer"] == 2) & (table["rank"] == 1)].iloc[0]
    assert slot["expert"] == trace.data["expert_id"].sel(token=4, moe_layer=2, rank=1)


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
