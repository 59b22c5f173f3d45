"""A running engine is asked."""

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.run.served import AFTER_THE_ANSWER, AT_THE_END, BY_CHUNK
from pages.audit.imports import choices, engine
from pages.common.menu import page_path
from tests import engines
from tests.pages.conftest import said
from tests.served import Answer, new_vllm, serving, sglang

OBSERVE = [page_path(name) for name in ("explore", "routing", "expert_load", "tokens")]

IDS = engines.random_ids()


def send(app: AppTest, address: str, monkeypatch: pytest.MonkeyPatch, model: str = "fake") -> AppTest:
    monkeypatch.setenv(engine.ADDRESS, address)
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
    assert run.kind == engine.ENGINE
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
        app = send(page, address, monkeypatch, choices.NOT_NAMED)
        assert "Choose the model that the engine serves" in app.error[0].value
        assert asked == []


def test_without_an_operators_address_there_is_nothing_to_send(page: AppTest) -> None:
    assert engine.ADDRESS in said(page)
    assert "engine_send" not in {button.key for button in page.button}
