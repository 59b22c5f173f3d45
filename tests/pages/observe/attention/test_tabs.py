import dataclasses
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.trace import Trace
from pages.common.menu import page_path
from tests.pages.conftest import charts, said
from tests.traces import random_trace

PAGE = page_path("attention")


def without(trace: Trace, *variables: str, **kept: object) -> Trace:
    data = trace.data.drop_vars(list(variables)).isel(kept).copy(deep=True)  # type: ignore[arg-type]
    return dataclasses.replace(trace, data=data)


@pytest.mark.parametrize("tab", ["All layers", "Rollout"])
def test_tabs_draw_what_is_recorded(show: Callable[..., AppTest], tab: str) -> None:
    assert len(charts(show(tab=tab))) == 4


def test_rollout_needs_all_layers_and_heads(show: Callable[..., AppTest]) -> None:
    app = show(without(random_trace(), attention_layer=[1], head=[0]), tab="Rollout")
    assert len(charts(app)) == 3
    assert app.selectbox(key="layer").options == ["1"]
    assert "inputs were not recorded" in said(app)


def test_tokens_that_count_may_be_none(show: Callable[..., AppTest]) -> None:
    app = show(random_trace(num_new=0), tokens="generated")
    assert "None of the tokens under “Tokens that count”" in said(app)
