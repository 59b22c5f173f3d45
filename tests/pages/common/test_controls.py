from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common import controls
from pages.common.menu import page_path


def population_page() -> None:
    import streamlit as st

    from pages.common import controls
    from tests.traces import random_trace

    controls.take_from_address("here")
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


def test_every_page_keeps_the_shared_choices_in_the_address(open_app: Callable[..., AppTest]) -> None:
    chosen = {"token": "3", "layer": "2", "expert": "5", "head": "1"}
    app = open_app(**chosen)
    for page in ("observe/tokens", "learn/architecture", "observe/routing", "observe/explore"):
        app.switch_page(f"pages/{page}/page.py").run()
        assert not app.exception
        assert {name: app.query_params[name] for name in chosen} == chosen


def test_link_can_ask_for_the_mean_of_all_heads_and_for_one_expert_alone(open_app: Callable[..., AppTest]) -> None:
    app = open_app(head="all", expert="5", alone="yes")
    assert (app.session_state["head"], app.session_state["alone"]) == (controls.ALL_HEADS, "yes")
    assert app.selectbox(key="head").value == controls.ALL_HEADS
    assert (app.query_params["head"], app.query_params["alone"]) == ("all", "yes")


def test_link_within_the_app_makes_its_choices(open_app: Callable[..., AppTest]) -> None:
    app = open_app(layer="2", token="3")
    app.query_params["layer"] = "1"
    app.switch_page("pages/observe/routing/page.py").run()
    assert (app.session_state["layer"], app.session_state["token"]) == (1, 3)
    app.selectbox(key="layer").set_value(2).run()
    assert (app.session_state["layer"], app.query_params["layer"]) == (2, "2")


@pytest.mark.parametrize("value", ["-2", "many", "999", "![x](y)"])
def test_link_with_a_choice_that_does_not_exist_makes_none(open_app: Callable[..., AppTest], value: str) -> None:
    app = open_app(token=value, head=value)
    assert not app.exception
    assert "token" not in app.query_params
    assert app.query_params["head"] == "0"


def test_tokens_that_count_stay_on_other_pages_and_on_the_way_back(open_app: Callable[..., AppTest]) -> None:
    load, tokens = page_path("expert_load"), page_path("tokens")
    app = open_app().switch_page(load).run()
    app.session_state["tokens"], app.session_state["special"] = "prompt", False
    app.run()
    assert (app.query_params["tokens"], app.query_params["special"]) == ("prompt", "false")
    app.switch_page(tokens).run().run()
    assert (app.query_params["tokens"], app.query_params["special"]) == ("prompt", "false")
    app.switch_page(load).run()
    assert not app.exception
    assert (app.session_state["tokens"], app.toggle(key="special").value) == ("prompt", False)
    app.session_state["tokens"], app.session_state["special"] = "all", True
    app.run()
    assert not {"tokens", "special"} & set(app.query_params)
