from collections.abc import Callable
from typing import TYPE_CHECKING

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.common.runs import Run
from tests.pages.conftest import charts
from tests.traces import random_trace

if TYPE_CHECKING:
    from model.run.engine import Engine

OpenApp = Callable[..., AppTest]
PAGE = page_path("attention")


def test_another_run_is_shown_whole(computed: Callable[..., AppTest], real: "Engine") -> None:
    app = computed(40, queries=(20, 30), keys=(3, 5))
    assert charts(app)[0]["layout"]["xaxis"]["range"] == [2.5, 5.5]
    app.session_state["run"] = Run(10**9, "opened", trace=random_trace(num_prompt=20))
    assert app.run().slider(key="queries").value == (0, 23)


def test_an_address_restores_the_part(open_app: OpenApp) -> None:
    app = open_app().switch_page(PAGE)
    app.query_params["queries"], app.query_params["keys"] = ["3", "9"], ["1", "4"]
    assert charts(app.run())[0]["layout"]["yaxis"]["range"] == [9.5, 2.5]
