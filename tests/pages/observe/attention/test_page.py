import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.trace import Trace
from pages.common.menu import page_path
from pages.common.runs import Run
from tests.pages.conftest import charts, said
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]
if TYPE_CHECKING:
    from model.run.engine import Engine

PAGE = page_path("attention")


def without(trace: Trace, *variables: str, **kept: object) -> Trace:
    data = trace.data.drop_vars(list(variables)).isel(kept).copy(deep=True)  # type: ignore[arg-type]
    return dataclasses.replace(trace, data=data)


def test_first_screen_shows_a_head_of_the_recorded_run(show: Callable[..., AppTest]) -> None:
    app = show()
    assert len(charts(app)) == 4
    assert ":gray-badge[recorded]" in said(app)
    assert "layer 1, head 0: measured, n = 14 tokens" in charts(app)[0]["layout"]["annotations"][0]["text"]
    assert app.selectbox(key="layer").options == ["0", "1", "2"]


def test_choices_are_kept(show: Callable[..., AppTest]) -> None:
    app = show(layer=2, head=1, token=4)
    assert "layer 2, head 1" in charts(app)[0]["layout"]["annotations"][0]["text"]
    assert "token 4: measured, n = 5 tokens" in str(charts(app)[2]["layout"]["annotations"])


@pytest.mark.parametrize("sort", ["index", "entropy", "first token", "distance"])
def test_thumbnails_are_sorted_as_asked(show: Callable[..., AppTest], sort: str) -> None:
    app = show(sort=sort)
    texts = [trace for trace in charts(app)[1]["data"] if trace.get("mode") == "text"][0]["text"]
    values = [float(text.split()[-1]) for text in texts]
    assert values == sorted(values, reverse=sort in ("first token", "distance"))


@pytest.mark.parametrize("tab", ["All layers", "Rollout"])
def test_tabs_draw_what_is_recorded(show: Callable[..., AppTest], tab: str) -> None:
    assert len(charts(show(tab=tab))) == 4


def test_without_attention_says_what_to_record(show: Callable[..., AppTest]) -> None:
    app = show(without(random_trace(), "attention", "attention_layer", "head"))
    assert charts(app) == []
    assert "--capture attention" in said(app)


def test_rollout_needs_all_layers_and_heads(show: Callable[..., AppTest]) -> None:
    app = show(without(random_trace(), attention_layer=[1], head=[0]), tab="Rollout")
    assert len(charts(app)) == 3
    assert app.selectbox(key="layer").options == ["1"]
    assert "inputs were not recorded" in said(app)


def test_tokens_that_count_may_be_none(show: Callable[..., AppTest]) -> None:
    app = show(random_trace(num_new=0), tokens="generated")
    assert "No token that counts" in said(app)


def test_another_run_is_shown_whole(computed: Callable[..., AppTest], real: "Engine") -> None:
    app = computed(40, queries=(20, 30), keys=(3, 5))
    assert charts(app)[0]["layout"]["xaxis"]["range"] == [2.5, 5.5]
    app.session_state["run"] = Run(10**9, "opened", trace=random_trace(num_prompt=20))
    assert app.run().slider(key="queries").value == (0, 23)


def test_an_address_restores_the_part(open_app: OpenApp) -> None:
    app = open_app().switch_page(PAGE)
    app.query_params["queries"], app.query_params["keys"] = ["3", "9"], ["1", "4"]
    assert charts(app.run())[0]["layout"]["yaxis"]["range"] == [9.5, 2.5]
