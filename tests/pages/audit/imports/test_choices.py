"""The file, its format and its model."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.checkpoint.embedded import RELEASED
from model.trace.trace import TraceError
from pages.audit.imports import choices
from pages.common import models
from pages.common.menu import page_path
from tests import engines
from tests.engines import as_json
from tests.pages.audit.imports.conftest import ANSWER, bring
from tests.pages.conftest import charts, said

PAGE = page_path("imports")

OpenApp = Callable[..., AppTest]


def test_link_names_the_format_and_the_model(open_app: OpenApp) -> None:
    app = open_app().switch_page(PAGE)
    app.query_params["import_format"], app.query_params["import_model"] = "vLLM routed_experts", "fake"
    app.run()
    assert (app.selectbox(key="import_format").value, app.selectbox(key="import_model").value) == ("vllm", "fake")


def test_only_models_that_are_offered_are_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "available", lambda: {"fake": tmp_path})
    opened: list[Path | str] = []
    monkeypatch.setattr(choices, "_named", opened.append)
    for name in (str(tmp_path), "..", "/", choices.NOT_NAMED):
        with pytest.raises(TraceError, match="not in the list; choose one"):
            choices.named(name)
    choices.named("fake")
    choices.named("deepseek-v3")
    assert opened == [tmp_path, "deepseek-v3"]


def test_what_cannot_be_read_leaves_what_was_there(page: AppTest) -> None:
    before = said(page)
    app = bring(page, ANSWER[:-30])
    assert "The file was not imported: the file is not whole JSON" in app.error[0].value
    assert ":gray-badge[recorded]" in before
    assert ":gray-badge[recorded]" in said(app)
    app = bring(app, b"PK\x03\x04", "dump.pt")
    assert "import --help" in app.error[0].value
    app = bring(app, ANSWER)
    assert not app.error
    app = bring(app, ANSWER, model=choices.NOT_NAMED)
    assert "name the model" in app.error[0].value
    assert ":violet-badge[imported]" in said(app)


def test_a_released_configuration_can_be_chosen(open_app: OpenApp) -> None:
    ids = engines.random_ids(layers=58, experts=256, top_k=8)
    app = bring(open_app().switch_page(PAGE).run(), as_json(engines.sglang_generate(ids, dense=3)), model="deepseek-v3")
    assert not app.exception
    assert not app.error
    assert "6 of 7 tokens" in app.dataframe[0].value["known"].tolist()
    app.switch_page(page_path("expert_load")).run()
    assert charts(app)
    assert "of 58 layers" in said(app)


def test_models_to_choose_from(page: AppTest) -> None:
    assert choices.model_names()[0] == choices.NOT_NAMED
    assert set(choices.model_names()[1:]) == {*models.available(), *RELEASED}
