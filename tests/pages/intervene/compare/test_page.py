"""The Compare page: what it says of two runs, where its sides come from, and what it does with hostile files."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from model.run.request import RequestError, RunRequest
from model.trace.compare import compare
from model.trace.file import dumps
from model.trace.trace import Trace
from pages.common import jobs, limits, text
from pages.common.menu import page_path
from pages.intervene.compare import sides, tabs
from pages.intervene.compare.tabs import NUMBERS, ONE, TOKENS
from tests.pages.conftest import charts, numbers, said
from tests.pages.fakes import FakeEngine
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]
PAGE = page_path("compare")


def shown() -> Trace:
    return random_trace(seed=9, num_prompt=5, num_new=9)


def nudged(trace: Trace, token: int = 6, layer: int = 2) -> Trace:
    """The same run, in which one choice fell otherwise."""
    ids = trace.data["expert_id"].values.copy()
    place = trace.data["moe_layer"].values.tolist().index(layer)
    unused = sorted(set(range(8)) - set(ids[token, place].tolist()))
    ids[token, place, 1] = unused[0]
    logprob = trace.data["logprob"].values.copy()
    logprob[token] -= 0.5
    data = trace.data.assign(expert_id=(trace.data["expert_id"].dims, ids), logprob=("token", logprob))
    return dataclasses.replace(trace, data=data, origin={**trace.origin, "dtype": "bfloat16"})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str, RunRequest]]:
    """What was run for side B; it gives the shown run with one choice turned."""
    requests: list[tuple[Path, str, RunRequest]] = []

    def run(folder: Path, dtype: str, request: RunRequest) -> Trace:
        requests.append((folder, dtype, request))
        return nudged(shown())

    monkeypatch.setattr(sides, "run", run)
    return requests


def strip(app: AppTest) -> str:
    assert not app.exception
    return next(element.proto.body for element in app.get("html") if 'class="strip splits"' in element.proto.body)


def upload(app: AppTest, side: str, content: bytes, name: str = "other.safetensors") -> AppTest:
    app.selectbox(key=side).set_value("trace file")
    app.run()
    return app.file_uploader(key=f"{side}-file").upload(name, content).run()


def test_first_visit_compares_the_example_with_its_own_text_in_bfloat16(
    show_at: OpenApp, asked: list[tuple[Path, str, RunRequest]]
) -> None:
    app = show_at()
    words = said(app)
    assert text.plain("1 of 28 choices (3.57 %) took other experts") in words
    assert "**" in words
    assert text.plain("Log-probabilities of the tokens differ by up to 0.5 nats") in words
    (request,) = asked
    assert request[1] == "bfloat16"
    assert request[2].token_ids == tuple(token.id for token in shown().tokens)
    assert request[2].max_new_tokens == 0
    assert 'title="token 6 of A, 6 of B: first split is' in strip(app)
    picture, points = charts(app)[0]["data"]
    assert np.count_nonzero(numbers(picture["z"])) == 1


def test_run_beside_itself_is_identical(show_at: OpenApp) -> None:
    app = show_at(right="on show")
    assert "All 28 choices took the same experts." in said(app)
    assert "equal to the bit" in said(app)
    assert not re.search('class="chip[^"]* change"', strip(app))


@pytest.mark.parametrize("part", tabs.TABS)
def test_tabs_are_mirrored_in_the_address(
    show_at: OpenApp, asked: list[tuple[Path, str, RunRequest]], part: str
) -> None:
    app = show_at(part=part, token="6", layer="2")
    assert not app.exception
    assert app.number_input(key="token").value == 6
    assert app.selectbox(key="layer").value == 2
    table = app.dataframe[-1].value
    if part == TOKENS:
        assert table["token"].tolist() == [6]
        assert table["splits first in"].tolist() == ["L2"]
    elif part == NUMBERS:
        assert table["B - A (nat)"].tolist()[6] == pytest.approx(-0.5)
    elif part == ONE:
        assert table["layer"].tolist() == [1, 2]
        assert table["only A"].tolist()[0] == ""
        assert table["only A"].tolist()[1].startswith("E")
    else:
        assert table["equal sets"].tolist() == pytest.approx([1, 13 / 14])
        assert table["Jaccard by chance"].notna().all()


def test_token_without_a_partner_says_so(show_at: OpenApp, asked: list[tuple[Path, str, RunRequest]]) -> None:
    app = upload(show_at(part=ONE, token="13"), "right", dumps(random_trace(seed=9, num_prompt=5, num_new=2)))
    assert "B has no token that stands for token 13 of A" in said(app)
    assert text.plain("Not aligned: 7 of 14 tokens of A") in said(app)
    assert re.search('class="chip[^"]* not-aligned"', strip(app))


def test_file_against_the_example(show_at: OpenApp) -> None:
    app = upload(show_at(right="recorded example"), "right", dumps(nudged(shown())))
    assert "1 of 28 choices" in said(app)
    assert "bfloat16" in said(app)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "This is not a MoE Loupe trace file"),
        (b'\x08\0\0\0\0\0\0\0{"a": 1}', "This is not a MoE Loupe trace file"),
        (dumps(shown())[:-9], "The trace file is damaged"),
        (json.dumps({"format": "moe-loupe-trace"}).encode(), "This is not a MoE Loupe trace file"),
    ],
    ids=["empty", "other safetensors", "truncated", "JSON"],
)
def test_hostile_file_gets_one_kind_line(show_at: OpenApp, content: bytes, complaint: str) -> None:
    app = upload(show_at(right="recorded example"), "right", content)
    assert not app.exception
    (error,) = app.error
    assert error.value.startswith(complaint)
    assert "\n" not in error.value
    assert "Choose two runs above" in said(app)


def test_file_that_is_too_large_is_refused(show_at: OpenApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = show_at(right="recorded example")
    monkeypatch.setattr(limits, "UPLOAD_BYTES", 2**20)
    app = upload(app, "right", b"\0" * (2**20 + 1))
    assert "The file is larger than 1 MB" in said(app)


def test_names_in_a_file_are_shown_as_text(show_at: OpenApp) -> None:
    hostile = dataclasses.replace(shown(), model={**shown().model, "name": "<script>`x`\n# head"})
    app = upload(show_at(right="recorded example"), "right", dumps(hostile))
    assert not app.exception
    described = next(caption.value for caption in app.caption if caption.value.startswith("A: "))
    assert r"B: \<script\>\`x\` \# head, measured on cpu" in described


def test_models_with_other_experts_cannot_be_compared(show_at: OpenApp) -> None:
    other = random_trace(num_experts=16)
    app = upload(show_at(right="recorded example"), "right", dumps(other))
    assert "These two cannot be compared: the models have 8 and 16 experts" in said(app)


def test_another_prompt_waits_until_it_is_typed(show_at: OpenApp, asked: list[tuple[Path, str, RunRequest]]) -> None:
    app = show_at(right="another prompt")
    assert "Choose two runs above" in said(app)
    app.text_area(key="other").set_value("The wolf").run()
    assert asked[-1][2].prompt == "The wolf"
    assert "1 of 28 choices" in said(app)
    app.text_area(key="other").set_value("x" * (limits.PROMPT_CHARACTERS + 1)).run()
    assert "The prompt is longer than 20,000 characters" in said(app)


def test_run_that_is_refused_is_said_in_one_line(show_at: OpenApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, dtype: str, request: RunRequest) -> Trace:
        raise RequestError("the prompt does not fit")

    monkeypatch.setattr(sides, "run", refuse)
    app = show_at()
    assert [error.value for error in app.error] == ["The prompt does not fit."]
    assert not app.exception


@pytest.mark.parametrize("problem", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_model_too_large_to_load_is_said_in_the_words_of_a_run(
    show_at: OpenApp, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def too_large(folder: Path, dtype: str, request: RunRequest) -> Trace:
        raise problem

    monkeypatch.setattr(sides, "run", too_large)
    app = show_at()
    assert [error.value for error in app.error] == [text.sentence(jobs.failure(MemoryError()))]
    assert not app.exception


def test_stop_ends_the_run_of_b_and_it_can_be_run_again(show_at: OpenApp, engine: FakeEngine) -> None:
    """Streamlit ends the script where a run says how far it is, as when Stop is pressed or the tab is closed."""
    engine.disk = object()
    engine.on_step = lambda layer, cancel: st.stop() if layer == 2 else None
    app = show_at(dtype="float32")
    assert not app.button(key="stop-b").disabled
    app.button(key="stop-b").click().run()
    assert "It was stopped before there was anything to show" in said(app)
    assert app.button(key="stop-b").disabled
    engine.on_step = lambda layer, cancel: (cancel.set(), cancel.set()) if layer == 1 and cancel else None
    app.button(key="run-b").click().run()
    assert "Stopped after 1 of 3 layers" in said(app)
    engine.on_step = lambda layer, cancel: None
    app.button(key="run-b").click().run()
    assert not app.exception
    assert not app.error
    assert "run-b" not in [button.key for button in app.button]
    assert len(engine.requests) == 3


def test_run_of_b_is_made_once_for_all_who_ask_the_same(show_at: OpenApp, engine: FakeEngine) -> None:
    for _ in range(2):
        app = show_at(dtype="float32")
        assert not app.exception
        assert not app.error
    assert len(engine.requests) == 1


def test_model_from_the_disk_is_run_in_float32_only(engine: FakeEngine, tmp_path: Path) -> None:
    engine.disk = object()  # type: ignore[assignment]
    with pytest.raises(RequestError, match="run in float32 only"):
        sides.engine(tmp_path, "bfloat16")
    assert sides.engine(tmp_path, "float32") is engine


def test_no_trace(show_at: OpenApp, recorded: Path) -> None:
    (recorded / "story.safetensors").unlink()
    app = show_at()
    assert not app.exception
    assert "Choose two runs above" in said(app)


def test_tables_hold_plain_numbers() -> None:
    found = compare(shown(), nudged(shown()))
    table = tabs.layer_table(found)
    assert table["layer"].tolist() == [1, 2]
    assert table["same"].tolist() == [14, 13]
    assert "undecided" not in table
    assert tabs.tokens_table(compare(shown(), shown())).empty
