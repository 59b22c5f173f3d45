"""Where the two runs come from, and what becomes of hostile files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.run.request import RequestError, RunRequest
from model.trace.file import dumps
from model.trace.trace import Trace
from pages.common import jobs, limits, text
from pages.common.menu import page_path
from pages.intervene.compare import runs
from tests.pages.conftest import said
from tests.pages.intervene.compare.conftest import nudged, shown, upload

OpenApp = Callable[..., AppTest]

PAGE = page_path("compare")


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


def test_another_prompt_waits_until_it_is_typed(show_at: OpenApp, asked: list[tuple[Path, str, RunRequest]]) -> None:
    app = show_at(right="another prompt")
    assert "Choose two runs above" in said(app)
    app.text_area(key="other").set_value("The wolf").run()
    assert asked[-1][2].prompt == "The wolf"
    assert "1 of 28 choices" in said(app)
    app.text_area(key="other").set_value("x" * (limits.PROMPT_CHARACTERS + 1)).run()
    assert "The prompt is longer than 20,000 characters" in said(app)


@pytest.mark.parametrize(
    ("trace", "address", "dtype"),
    [
        (shown(), {}, "float32"),
        (nudged(shown()), {}, "bfloat16"),
        (nudged(shown()), {"dtype": "float16"}, "float16"),
    ],
)
def test_number_format_of_b_is_that_of_a_until_another_is_chosen(
    show_at: OpenApp, asked: list[tuple[Path, str, RunRequest]], trace: Trace, address: dict[str, str], dtype: str
) -> None:
    assert show_at(trace, **address).selectbox(key="dtype").value == dtype == asked[-1][1]


def test_run_that_is_refused_is_said_in_one_line(show_at: OpenApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, dtype: str, request: RunRequest) -> Trace:
        raise RequestError("the prompt does not fit")

    monkeypatch.setattr(runs, "run", refuse)
    app = show_at()
    assert [error.value for error in app.error] == ["The prompt does not fit."]
    assert not app.exception


@pytest.mark.parametrize("problem", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_model_too_large_to_load_is_said_in_the_words_of_a_run(
    show_at: OpenApp, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def too_large(folder: Path, dtype: str, request: RunRequest) -> Trace:
        raise problem

    monkeypatch.setattr(runs, "run", too_large)
    app = show_at()
    assert [error.value for error in app.error] == [text.sentence(jobs.failure(MemoryError()))]
    assert not app.exception
