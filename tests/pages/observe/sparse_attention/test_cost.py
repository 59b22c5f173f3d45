from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import charts

PAGE = page_path("sparse_attention")


def test_cost_is_measured_for_longer_contexts_too(sparse_app: Callable[..., AppTest]) -> None:
    figure = charts(sparse_app(part="Cost"))[2]
    assert [trace["name"] for trace in figure["data"]] == [
        "attention, every key",
        "attention, selected keys",
        "indexer",
    ]
    assert figure["data"][0]["x"] == [16, 1_024, 4_096, 16_384]
    assert all(value > 0 for trace in figure["data"] for value in trace["y"])
