import json
import struct
import threading
import types
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from model.run.request import RequestError
from model.trace import file
from model.trace import load as loads
from model.trace.file import save
from pages.common import examples, limits, models
from tests.pages.conftest import charts, said
from tests.pages.fakes import FakeEngine
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]


def figures(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


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
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
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
    def refuse(folder: Path) -> None:
        raise RequestError("config.json is missing")

    monkeypatch.setattr(models, "load", refuse)
    app = open_app()
    app.button(key="generate").click().run()
    assert app.error[0].value.startswith("Config.json is missing.")
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


def test_drafts_stand_beside_their_tokens(open_app: OpenApp, recorded: Path) -> None:
    trace = random_trace(seed=9, num_prompt=5, num_new=30, drafts=True)
    save(trace, recorded / "story.safetensors")
    app = open_app(tab="Drafts")
    assert not app.exception
    found, data = figures(app), trace.data
    tried = data["draft_tried"].values
    right = (data["draft_id"] == data["token_id"]).values
    assert found["Accepted"] == f"{right[tried].mean():.0%}"
    assert found["Passes saved"] == f"{right[tried].sum()} of 30"
    (table,) = [frame.value for frame in app.dataframe if "draft" in frame.value]
    assert table["right"].tolist() == right.tolist()
    assert table["tried"].tolist() == tried.tolist()
    assert table["draft"].isna().tolist() == [True, True] + [False] * 33
    page = next(element.proto.body for element in app.get("html") if 'class="strip drafts"' in element.proto.body)
    assert page.count("✓") == right.sum() + 2  # two in the legend
    bars, marks = charts(app)[0]["data"]
    assert len(bars["x"]) == len(marks["x"]) == 2


def lens(app: AppTest) -> dict[str, Any]:
    """The settings that the lens is handed."""
    (message,) = [element.proto.bytes for element in app.get("bidi_component") if element.proto.bytes]
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length])


def test_link_restores_how_the_lens_looks(open_app: OpenApp) -> None:
    app = open_app(colour="surprisal", map="layers", layer="2")
    assert {"colour": "surprisal", "map": "layers", "layer": 2}.items() <= lens(app)["view"].items()
    assert {"colour", "map"} <= set(app.query_params)


def test_address_says_how_the_lens_looks(open_app: OpenApp) -> None:
    app = open_app(colour="![x](y)")
    assert lens(app)["view"]["colour"] == "expert"
    assert "colour" not in app.query_params
    app.session_state["colour"] = "group"
    app.run()
    assert (lens(app)["view"]["colour"], app.query_params["colour"]) == ("group", "group")
    app.session_state["colour"] = "expert"
    app.run()
    assert "colour" not in app.query_params


def test_lens_is_handed_what_chance_alone_gives_the_finished_run(open_app: OpenApp, recorded: Path) -> None:
    band = loads.measure(file.load(recorded / "story.safetensors")).band
    assert band is not None
    assert lens(open_app())["band"] == [band.low, band.high]


def test_lens_says_how_to_read_it(open_app: OpenApp) -> None:
    (said_of_it,) = [each for each in open_app().expander if each.label == "How to read this"]
    assert not said_of_it.proto.expanded
    words = " ".join(each.value for each in said_of_it.markdown)
    assert all(part in words for part in ("Strip", "Map", "Attention", "Load", "Keys", "chance alone"))


def test_trace_without_drafts_says_why_there_are_none(open_app: OpenApp) -> None:
    assert "This trace holds no drafts" in said(open_app(tab="Drafts"))


def test_drafts_are_recorded_where_the_model_makes_them(open_app: OpenApp, engine: FakeEngine) -> None:
    engine.config = types.SimpleNamespace(**vars(engine.config) | {"has_mtp": True})
    app = open_app()
    app.button(key="generate").click().run()
    assert engine.requests[0].capture.variables == {"router", "attention", "inputs", "drafts"}


def why(app: AppTest) -> dict[str, str]:
    """What the link to a token's decision asks for."""
    (link,) = [link.proto for link in app.get("page_link") if link.proto.label == "Why these experts?"]
    assert link.page == "routing"
    return dict(urllib.parse.parse_qsl(link.query_string))


def test_link_asks_why_a_locked_token_took_its_experts(open_app: OpenApp) -> None:
    assert why(open_app(token="4", layer="2", expert="6")) == {"token": "4", "layer": "2", "expert": "6"}


def test_link_asks_for_the_newest_token_of_the_same_run(open_app: OpenApp) -> None:
    asked = why(open_app(prompt="A wolf", new="2"))
    assert asked == {"prompt": "A wolf", "new": "2", "token": "7", "layer": "1"}
