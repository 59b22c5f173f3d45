"""The Imports page, and every page on what was imported."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.run.served import AFTER_THE_ANSWER, AT_THE_END, BY_CHUNK
from model.trace.file import dumps, loads, save
from model.trace.imports.formats import read
from model.trace.trace import Trace, TraceError
from pages.audit.imports import file, live
from pages.common import models
from pages.common.menu import page_path
from tests import engines
from tests.engines import TINY, as_json
from tests.pages.conftest import charts, said
from tests.served import Answer, new_vllm, serving, sglang

PAGE = page_path("imports")
OBSERVE = [page_path(name) for name in ("explore", "routing", "expert_load", "tokens")]
OTHERS = [page_path("attention"), page_path("sparse_attention")]
IDS = engines.random_ids()
ANSWER = as_json(engines.vllm_npy(IDS))
OpenApp = Callable[..., AppTest]


def logits() -> bytes:
    return engines.router_logits(np.random.default_rng(0).normal(size=(6, 4, 16)).astype(np.float32))


FILES: dict[str, Callable[[], Trace]] = {
    "vLLM": lambda: read(ANSWER, "auto", TINY),
    "SGLang": lambda: read(as_json(engines.sglang_openai(IDS)), "auto", TINY),
    "llama.cpp": lambda: read(engines.moe_trace(IDS), "auto", TINY),
    "logits without a model": lambda: read(logits()),
    "logits without a bias": lambda: read(logits(), "auto", TINY),
    "logits": lambda: read(logits(), "auto", engines.Named("t", engines.CONFIG, bias=lambda layer: np.zeros(16, "f4"))),
}


@pytest.fixture
def page(open_app: OpenApp, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setattr(file, "named", lambda name: TINY)
    return open_app().switch_page(PAGE).run()


def test_link_names_the_format_and_the_model(open_app: OpenApp) -> None:
    app = open_app().switch_page(PAGE)
    app.query_params["import_format"], app.query_params["import_model"] = "vLLM routed_experts", "fake"
    app.run()
    assert (app.selectbox(key="import_format").value, app.selectbox(key="import_model").value) == ("vllm", "fake")


def bring(app: AppTest, content: bytes, name: str = "answer.json", model: str = "fake") -> AppTest:
    app.file_uploader(key="import_file").set_value((name, content, "application/octet-stream"))
    app.selectbox(key="import_model").set_value(model)
    return app.run().button(key="import_show").click().run()


def test_only_models_that_are_offered_are_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "available", lambda: {"fake": tmp_path})
    opened: list[Path | str] = []
    monkeypatch.setattr(file, "_named", opened.append)
    for name in (str(tmp_path), "..", "/", file.NOT_NAMED):
        with pytest.raises(TraceError, match="not offered here; choose one"):
            file.named(name)
    file.named("fake")
    file.named("deepseek-v3")
    assert opened == [tmp_path, "deepseek-v3"]


def test_a_file_becomes_the_trace_on_show_everywhere(page: AppTest) -> None:
    app = bring(page, ANSWER)
    assert not app.exception
    assert ":violet-badge[imported]" in said(app)
    held = app.dataframe[0].value.set_index("part")
    assert held.loc["chosen experts", ["known", "tag"]].tolist() == ["6 of 7 tokens", "imported"]
    assert held.loc["weights", "tag"] == "missing"
    assert "vLLM sends the ids" in held.loc["weights", "why not"]
    for name in OBSERVE:
        app.switch_page(name).run()
        assert not app.exception, name
        assert ":violet-badge[imported]" in said(app)


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
    app = bring(app, ANSWER, model=file.NOT_NAMED)
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


def test_an_imported_trace_can_be_saved_and_opened(page: AppTest) -> None:
    app = bring(page, ANSWER)
    shown = app.session_state["run"].trace
    app = bring(app, dumps(shown), "own.safetensors", file.NOT_NAMED)
    assert ":violet-badge[imported]" in said(app)
    assert np.array_equal(loads(dumps(shown)).data["expert_id"], shown.data["expert_id"])


@pytest.mark.parametrize("name", FILES)
def test_every_page_copes_with_what_is_missing(open_app: OpenApp, recorded: Path, name: str) -> None:
    save(FILES[name](), recorded / "story.safetensors")
    app = open_app()
    for where in (None, *OBSERVE[1:], PAGE, *OTHERS):
        app = app if where is None else app.switch_page(where).run()
        assert not app.exception, where
        assert not app.error, where


@pytest.mark.parametrize("name", ["vLLM", "llama.cpp"])
def test_tabs_of_ids_only(open_app: OpenApp, recorded: Path, name: str) -> None:
    save(FILES[name](), recorded / "story.safetensors")
    views = {
        page_path("routing"): ("part", ["This layer's choice", "Who works with whom", "One expert"]),
        page_path("expert_load"): (
            "view",
            ["One layer", "All layers as bars", "Groups", "Figures of every layer"],
        ),
        page_path("tokens"): ("of", ["Every token", "Counts by part", "Bytes per token"]),
        page_path("explore"): ("tab", ["This token", "Next tokens", "All layers", "Drafts", "Table"]),
    }
    for page_name, (key, tabs) in views.items():
        for tab in tabs:
            app = open_app(**{key: tab})
            if page_name != OBSERVE[0]:
                app = app.switch_page(page_name).run()
                app.query_params[key] = tab
                app = app.run()
            assert not app.exception, (page_name, tab)


def test_the_newest_token_with_experts_is_looked_at_first(open_app: OpenApp, recorded: Path) -> None:
    save(FILES["vLLM"](), recorded / "story.safetensors")
    app = open_app().switch_page(page_path("routing")).run()
    assert app.number_input(key="token").placeholder == "5"
    assert not app.exception


def test_text_of_a_file_says_only_itself(open_app: OpenApp, recorded: Path) -> None:
    trace = FILES["vLLM"]()
    hostile = dict(trace.origin) | {
        "format": "**bold** [x](http://y)",
        "missing": {"<b>": 1},
        "notes": 7,
        "derived": {},
    }
    save(dataclasses.replace(trace, origin=hostile), recorded / "story.safetensors")
    app = open_app()
    assert not app.exception
    assert "\\*\\*bold\\*\\*" in said(app)
    app = app.switch_page(PAGE).run()
    assert not app.exception


def test_models_to_choose_from(page: AppTest) -> None:
    assert file.choices()[0] == file.NOT_NAMED
    assert set(file.choices()[1:]) == {*models.available(), *file.RELEASED}


# --- live ------------------------------------------------------------------------------------------------------------


def send(app: AppTest, address: str, monkeypatch: pytest.MonkeyPatch, model: str = "fake") -> AppTest:
    monkeypatch.setenv(live.ADDRESS, address)
    app = app.run()
    app.selectbox(key="import_model").set_value(model)
    app.text_area(key="engine_prompt").set_value("The wolf")
    app.number_input(key="engine_new").set_value(3)
    return app.button(key="engine_send").click().run()


@pytest.mark.parametrize(
    ("routes", "when"),
    [(new_vllm(IDS), BY_CHUNK), (new_vllm(IDS, by_chunk=False), AT_THE_END), (sglang(IDS), AFTER_THE_ANSWER)],
)
def test_an_engine_is_asked_and_its_routing_shown(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, routes: dict[str, Answer], when: str
) -> None:
    with serving(routes) as (address, asked):
        app = send(page, address, monkeypatch)
    assert not app.exception
    assert not app.error
    assert f"What you send goes to `{address}`" in said(app)
    assert when in said(app)
    assert ":violet-badge[imported]" in said(app)
    run = app.session_state["run"]
    assert run.kind == live.ENGINE
    assert np.array_equal(run.trace.data["expert_id"].values[:6], IDS)
    assert sum(path in {"/inference/v1/generate", "/generate"} for path, _ in asked) == 1
    for name in OBSERVE:
        app.switch_page(name).run()
        assert not app.exception, name
    assert "prompt" not in app.query_params  # a link would run the prompt here
    assert sum(path in {"/inference/v1/generate", "/generate"} for path, _ in asked) == 1


def test_a_dead_engine_is_one_kind_line(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    app = send(page, "http://127.0.0.1:9", monkeypatch)
    assert not app.exception
    assert "cannot be reached" in app.error[0].value
    app = send(page, "file:///etc/passwd", monkeypatch)
    assert "must begin with http" in app.error[0].value
    with serving(sglang(IDS)) as (address, asked):
        app = send(page, address, monkeypatch, file.NOT_NAMED)
        assert "Choose the model that the engine serves" in app.error[0].value
        assert asked == []


def test_without_an_operators_address_there_is_nothing_to_send(page: AppTest) -> None:
    assert live.ADDRESS in said(page)
    assert "engine_send" not in {button.key for button in page.button}
