"""Every page on runs of families through transformers: no error, and nothing said that their routers lack."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.families.engine import TransformersEngine
from model.report.choice import attention_layers, choose, moe_layers
from model.report.page import report
from model.run.request import Capture, RunRequest
from model.trace.file import save
from model.trace.trace import Trace
from pages.common.menu import MENU, page_path
from tests.families import saved
from tests.pages.conftest import said
from tests.reports import Reader

PAGES = [name for section in ("Observe", "Intervene") for name in MENU[section]] + ["imports", "architecture"]


def run_of(model_type: str) -> Trace:
    """A run of a tiny model that records what its engine can."""
    engine = TransformersEngine.load(saved(model_type), "cpu")
    return engine.run(
        RunRequest(token_ids=(5, 9, 3, 7, 9), max_new_tokens=3, capture=Capture(engine.abilities.captures))
    )


@pytest.mark.parametrize("model_type", ["jamba", "deepseek_v4"])
def test_every_page_opens_on_a_run_of_a_family(
    model_type: str, open_app: Callable[..., AppTest], recorded: Path
) -> None:
    save(run_of(model_type), recorded / "story.safetensors")
    app = open_app()
    for name in PAGES:
        app = app if name == "explore" else app.switch_page(page_path(name)).run()
        assert not app.exception, name
        words = said(app)
        if name == "routing":
            assert "kept groups" not in words
            assert ("a table gives the experts of each token id" in words) is (model_type == "deepseek_v4")
        if name == "attention":
            assert ("linear attention and state-space layers have none" in words) is (model_type == "jamba")


@pytest.mark.parametrize("model_type", ["jamba", "deepseek_v4"])
def test_a_run_of_a_family_gives_a_report(model_type: str) -> None:
    trace = run_of(model_type)
    for layer in {*moe_layers(trace), *attention_layers(trace)}:
        page = Reader(report(trace, choose(trace, layer)))
        assert len(page.all("p", class_="lacking")) == 0
        assert len(page.all("tr", id=f"token-{trace.num_tokens - 1}")) == 1
