import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from model.run.request import Capture, RunRequest
from model.trace.cells import whole
from model.trace.trace import Trace
from pages.common import models
from pages.common.menu import page_path
from pages.common.runs import Run
from pages.observe.attention import head_map
from tests.models import random_model, tiny_config
from tests.pages.conftest import charts, said
from tests.pages.fakes import FakeEngine
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


def test_parts_need_the_layers_inputs(show: Callable[..., AppTest]) -> None:
    assert "--capture inputs" in said(show(tab="Content and position"))


def test_tokens_that_count_may_be_none(show: Callable[..., AppTest]) -> None:
    app = show(random_trace(num_new=0), tokens="generated")
    assert "No token that counts" in said(app)


def test_other_weights_are_never_computed_with(show: Callable[..., AppTest], engine: FakeEngine) -> None:
    trace = random_trace()
    data = trace.data.drop_vars(["attention", "attention_layer", "head"]).copy(deep=True)
    data["layer_input"] = (("token", "layer", "width"), np.ones((10, 3, 4), np.float32))
    engine.description = {"weights_sha256": "1" * 64}  # type: ignore[attr-defined]
    app = show(dataclasses.replace(trace, data=data))
    assert charts(app) == []
    assert "not at hand here with the same weights" in said(app)


# --- heads that are computed, with a model of its own ----------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> "Engine":
    from model.checkpoint.weights import save_model
    from model.run.engine import Engine

    folder = tmp_path_factory.mktemp("tiny")
    save_model(random_model(tiny_config(eos_id=None)), folder, torch.float32)
    return Engine.load(folder, device="cpu", context=600)


@pytest.fixture
def computed(real: "Engine", monkeypatch: pytest.MonkeyPatch, show: Callable[..., AppTest]) -> Callable[..., AppTest]:
    """Opens the page on a run of so many tokens that holds the layers' inputs only."""
    monkeypatch.setattr(models, "load", lambda folder: real)

    def shown(num_tokens: int, **chosen: object) -> AppTest:
        ids = tuple(np.random.default_rng(0).integers(1, 320, num_tokens).tolist())
        return show(real.run(RunRequest(token_ids=ids, capture=Capture(frozenset({"inputs"})))), **chosen)

    return shown


def test_long_runs_are_shown_in_cells(computed: Callable[..., AppTest]) -> None:
    app = computed(600, layer=2, head=3)
    picture, title = charts(app)[0]["data"][0], charts(app)[0]["layout"]["xaxis"]["title"]["text"]
    assert (picture["dx"], picture["dy"]) == (2, 2)
    assert title == "key (each cell is the largest of 2 x 2)"
    assert "layer 2, head 3: derived, n = 600 tokens" in str(charts(app)[0]["layout"]["annotations"])
    app = app.segmented_control(key="cell").set_value("mean").run()
    assert charts(app)[0]["layout"]["xaxis"]["title"]["text"] == "key (each cell is the mean of 2 x 2)"


def test_a_part_is_computed_anew_and_all_comes_back(computed: Callable[..., AppTest]) -> None:
    app = computed(600, queries=(100, 149), keys=(20, 119))
    figure = charts(app)[0]
    assert (figure["data"][0]["dx"], figure["data"][0]["x0"], figure["data"][0]["y0"]) == (1, 20, 100)
    assert figure["layout"]["yaxis"]["range"] == [149.5, 99.5]
    assert figure["layout"]["dragmode"] == "select"
    show_all = next(button for button in app.button if button.label == "Show all")
    app = show_all.click().run()
    assert app.slider(key="queries").value == (0, 599)
    assert charts(app)[0]["data"][0]["dx"] == 2


def test_another_run_is_shown_whole(computed: Callable[..., AppTest], real: "Engine") -> None:
    app = computed(40, queries=(20, 30), keys=(3, 5))
    assert charts(app)[0]["layout"]["xaxis"]["range"] == [2.5, 5.5]
    app.session_state["run"] = Run(10**9, "opened", trace=random_trace(num_prompt=20))
    assert app.run().slider(key="queries").value == (0, 23)


def test_an_address_restores_the_part(open_app: OpenApp) -> None:
    app = open_app().switch_page(PAGE)
    app.query_params["queries"], app.query_params["keys"] = ["3", "9"], ["1", "4"]
    assert charts(app.run())[0]["layout"]["yaxis"]["range"] == [9.5, 2.5]


@pytest.mark.parametrize("num_tokens", [1, 2, 40])
def test_parts_of_the_score_and_the_cache(computed: Callable[..., AppTest], num_tokens: int) -> None:
    app = computed(num_tokens, tab="Content and position", head=1)
    shown = charts(app)[-4:]
    assert [figure["data"][0]["type"] for figure in shown] == ["heatmap", "heatmap", "scatter", "bar"]
    assert [trace["name"] for trace in shown[2]["data"][:3]] == ["each head", "mean of heads", "head 1"]
    assert "MLA" in said(app)


def test_other_tabs_of_a_computed_run(computed: Callable[..., AppTest]) -> None:
    assert len(charts(computed(40, tab="Rollout"))) == 4


def test_a_drawn_rectangle_becomes_the_part_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, object] = {"map": {"selection": {"points": [], "box": [{"x": [3.6, -2.0], "y": [7.2, 99.9]}]}}}
    monkeypatch.setattr(head_map.st, "session_state", state)
    head_map.take("map", whole(20))
    assert (state["queries"], state["keys"]) == ((8, 19), (0, 3))
    state["map"] = {"selection": {"points": [], "box": [{"x": [5.1, 5.2], "y": [7.2, 9.9]}]}}
    head_map.take("map", whole(20))
    assert state["keys"] == (0, 3)


def test_a_click_chooses_the_rows_token_and_again_none(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, object] = {"map": {"selection": {"points": [{"customdata": {"0": 4, "1": 2, "2": 0.5}}]}}}
    monkeypatch.setattr(head_map.st, "session_state", state)
    head_map.take("map", whole(20))
    assert state["token"] == 4
    head_map.take("map", whole(20))
    assert state["token"] is None
