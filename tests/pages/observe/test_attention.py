import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.trace.trace import Trace
from tests.pages.conftest import charts, said
from tests.pages.fakes import FakeEngine
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]
PAGE = "pages/observe/attention.py"


def without(trace: Trace, *variables: str, **kept: object) -> Trace:
    data = trace.data.drop_vars(list(variables)).isel(kept).copy(deep=True)  # type: ignore[arg-type]
    return dataclasses.replace(trace, data=data)


def test_first_screen_shows_a_head_of_the_recorded_run(show: Callable[..., AppTest]) -> None:
    app = show()
    assert len(charts(app)) == 4
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
