from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.observe.routing.tabs import EXPERT
from tests.pages.conftest import charts, said
from tests.pages.observe.routing.traces import (
    with_idle_expert,
)
from tests.traces import random_trace

PAGE = page_path("routing")


def test_expert_is_told_by_its_tokens(show: Callable[..., AppTest]) -> None:
    app = show(part=EXPERT, layer=1, expert=2)
    (count,) = [metric.value for metric in app.metric if metric.label == "Tokens of L1E2"]
    trace = random_trace(seed=9, num_prompt=5, num_new=9)
    assert count == f"{(trace.data['expert_id'].sel(moe_layer=1).values == 2).sum()} of 14"


def test_expert_that_no_token_took(show: Callable[..., AppTest]) -> None:
    trace, idle = with_idle_expert()
    app = show(trace, part=EXPERT, layer=1, expert=idle)
    assert f"None of these 2 tokens went to L1E{idle}." in said(app)
    assert "Fair routing of as many tokens would leave about" in said(app)
    assert "highest affinity" in said(app)
    assert len(charts(app)) == 1
