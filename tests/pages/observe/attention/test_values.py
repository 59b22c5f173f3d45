import dataclasses
from collections.abc import Callable

import numpy as np
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import charts, said
from tests.pages.fakes import FakeEngine
from tests.traces import random_trace

PAGE = page_path("attention")


def test_other_weights_are_never_computed_with(show: Callable[..., AppTest], engine: FakeEngine) -> None:
    trace = random_trace()
    data = trace.data.drop_vars(["attention", "attention_layer", "head"]).copy(deep=True)
    data["layer_input"] = (("token", "layer", "width"), np.ones((10, 3, 4), np.float32))
    engine.description = {"weights_sha256": "1" * 64}  # type: ignore[attr-defined]
    app = show(dataclasses.replace(trace, data=data))
    assert charts(app) == []
    assert "not available here with the same weights" in said(app)


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


def test_other_tabs_of_a_computed_run(computed: Callable[..., AppTest]) -> None:
    assert len(charts(computed(40, tab="Rollout"))) == 4
