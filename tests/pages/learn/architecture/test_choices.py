"""The widgets: what links restore, and what other models and pages forget."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import said

OpenApp = Callable[..., AppTest]

PAGE = page_path("architecture")


def test_link_restores_the_part(show: OpenApp) -> None:
    app = show(of="DeepSeek-V3.2", part="moe indexer", context="4096", bytes="float32")
    assert app.selectbox(key="part").value == "moe-indexer"
    assert "**Lightning indexer**" in said(app)
    costs, tensors = (table.value for table in app.table)  # tables that wrap, so that no shape loses a digit
    assert costs["a layer"].tolist()[:2] == [13_959_424, 13_959_424]
    assert costs["a layer"].tolist()[4:] == [512, 4 * 128 * 4096]
    assert tensors["shape"].str.replace("\N{NO-BREAK SPACE}", " ").tolist()[:2] == ["8,192 × 1,536", "128 × 7,168"]
    assert tensors["tensor"].tolist() == [
        "wq_b.weight",
        "wk.weight",
        "k_norm.weight",
        "k_norm.bias",
        "weights_proj.weight",
    ]


def test_part_of_another_model_or_page_is_forgotten(show: OpenApp) -> None:
    app = show(of="DeepSeek-V3.2", part="moe indexer")
    app.get("button_group")[0].set_value("in use").run()
    assert not app.exception
    assert app.selectbox(key="part").value == "moe-experts"


def test_pages_that_name_their_own_parts_do_not_disturb_each_other(show: OpenApp) -> None:
    app = show(part="moe gate")
    app.switch_page(page_path("routing")).run()
    assert not app.exception
    app.switch_page(PAGE).run()
    assert not app.exception
    assert app.selectbox(key="part").value in ("moe-gate", "moe-experts")
