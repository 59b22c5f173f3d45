import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.run.request import RequestError
from model.train.post_training.pairs import write_template
from pages.common import examples, limits, models
from tests.pages.conftest import said
from tests.pages.fakes import FakeEngine
from tests.pages.observe.explore.test_drafts import figures

OpenApp = Callable[..., AppTest]


def test_first_screen_shows_the_recorded_example_and_runs_nothing(open_app: OpenApp, engine: FakeEngine) -> None:
    app = open_app()
    assert not app.exception
    assert ":gray-badge[recorded]" in said(app)
    assert figures(app)["Tokens"] == "14"
    assert app.text_area(key="prompt").value == examples.FIRST
    assert engine.requests == []


def test_generate_runs_what_the_widgets_say(open_app: OpenApp, engine: FakeEngine) -> None:
    app = open_app()
    app.text_area(key="prompt").set_value("A wolf")
    app.number_input(key="new").set_value(11)
    app.number_input(key="temp").set_value(0.3)
    app.number_input(key="seed").set_value(5)
    app.button(key="generate").click().run()
    (request,) = engine.requests
    assert (request.prompt, request.max_new_tokens, request.temperature, request.seed) == ("A wolf", 11, 0.3, 5)
    assert request.capture.variables == {"router", "attention", "inputs"}
    assert not app.exception
    assert figures(app)["Tokens"] == "17"
    assert "recorded" not in said(app)


def test_example_runs_at_once(open_app: OpenApp, engine: FakeEngine) -> None:
    app = open_app()
    app.button(key="example-Python").click().run()
    assert engine.requests[0].prompt == examples.PROMPTS["Python"] == app.text_area(key="prompt").value


def test_model_that_answers_is_asked(open_app: OpenApp, engine: FakeEngine, tmp_path: Path) -> None:
    write_template(tmp_path)
    app = open_app()
    assert app.toggle(key="chat").value
    app.button(key="example-Sum").click().run()
    assert (engine.requests[0].prompt, engine.requests[0].chat) == (examples.QUESTIONS["Sum"], True)


def test_stop_keeps_what_was_done(open_app: OpenApp, engine: FakeEngine) -> None:
    def stop_after_nine(step: int, cancel: threading.Event | None) -> None:
        if step == 9 and cancel is not None:
            cancel.set()
            cancel.set()

    engine.on_step = stop_after_nine
    app = open_app()
    app.button(key="generate").click().run()
    assert figures(app)["Tokens"] == "9"
    assert "stopped" in said(app)
    assert app.button(key="stop").disabled


def test_link_restores_the_view(open_app: OpenApp, engine: FakeEngine) -> None:
    app = open_app(prompt="The sun", new="7", seed="3", temp="0.5", layer="2", token="4", expert="6", head="1")
    (request,) = engine.requests
    assert (request.prompt, request.max_new_tokens, request.seed, request.temperature) == ("The sun", 7, 3, 0.5)
    assert (app.selectbox(key="layer").value, app.number_input(key="token").value) == (2, 4)
    assert (app.number_input(key="expert").value, app.selectbox(key="head").value) == (6, 1)
    app.run()
    assert len(engine.requests) == 1


def test_link_with_choices_only_runs_nothing(open_app: OpenApp, engine: FakeEngine) -> None:
    app = open_app(layer="2")
    assert app.selectbox(key="layer").value == 2
    assert engine.requests == []


@pytest.mark.parametrize("address", [{"layer": "99", "token": "-4", "head": "x"}, {"token": "100000"}, {"new": "1e9"}])
def test_address_that_asks_for_what_is_not_there(open_app: OpenApp, address: dict[str, str]) -> None:
    assert not open_app(**address).exception


def test_choice_beyond_a_shorter_run_is_forgotten(open_app: OpenApp) -> None:
    app = open_app()
    app.number_input(key="token").set_value(13).run()
    app.number_input(key="new").set_value(0)
    app.button(key="generate").click().run()
    assert not app.exception
    assert app.number_input(key="token").value is None


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("", "The prompt is empty"), ("x" * 100_000, "100,000 characters"), ("\ufffd", "cannot be encoded")],
    ids=["empty", "long", "refused by the engine"],
)
def test_refused_prompt_says_why_and_loses_nothing(open_app: OpenApp, prompt: str, message: str) -> None:
    app = open_app()
    app.text_area(key="prompt").set_value(prompt)
    app.button(key="generate").click().run()
    assert message in app.error[0].value
    assert app.text_area(key="prompt").value == prompt
    assert figures(app)["Tokens"] == "14"
    app.text_area(key="prompt").set_value("better")
    app.button(key="generate").click().run()
    assert not app.error
    assert figures(app)["Tokens"] == "54"


@pytest.mark.parametrize(
    "prompt",
    ["👩‍👩‍👧‍👦 e\u0301\u0301", "שלום \u202e abc", "a\x00b\x07", "<script>alert(1)</script>", "<｜begin▁of▁sentence｜>"],
)
def test_strange_prompt_reaches_the_engine_as_it_is(open_app: OpenApp, engine: FakeEngine, prompt: str) -> None:
    app = open_app()
    app.text_area(key="prompt").set_value(prompt)
    app.button(key="generate").click().run()
    assert not app.exception
    assert engine.requests[0].prompt == prompt


def test_model_that_cannot_be_read(open_app: OpenApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, job: object) -> None:
        raise RequestError("config.json is missing")

    monkeypatch.setattr(models, "load", refuse)
    app = open_app()
    app.button(key="generate").click().run()
    assert app.error[0].value.startswith("config.json is missing.")
    assert figures(app)["Tokens"] == "14"


def test_no_model_and_no_example(open_app: OpenApp, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "available", dict)
    (recorded / "story.safetensors").unlink()
    app = open_app()
    assert not app.exception
    assert "No example is installed" in said(app)
    app.button(key="generate").click().run()
    assert "no model is installed" in app.error[0].value.lower()


def test_attention_beyond_the_cap_is_left_out_and_said(
    open_app: OpenApp, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ATTENTION_WEIGHTS", 100)
    app = open_app()
    app.button(key="generate").click().run()
    assert engine.requests[0].capture.variables == {"router", "inputs"}
    assert "too many to record all heads" in said(app)
