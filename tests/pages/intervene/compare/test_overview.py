"""The verdict, the marked text and the map of splits."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from streamlit.testing.v1 import AppTest

from model.run.request import RunRequest
from model.trace.file import dumps
from pages.common import text
from pages.common.menu import page_path
from pages.intervene.compare.tabs import ONE
from tests.pages.conftest import charts, numbers, said
from tests.pages.intervene.compare.conftest import shown, strip, upload
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]

PAGE = page_path("compare")


def test_first_visit_compares_the_example_with_its_own_text_in_its_own_number_format(
    show_at: OpenApp, asked: list[tuple[Path, str, RunRequest]]
) -> None:
    app = show_at()
    words = said(app)
    assert text.plain("1 of 28 choices (3.57 %) took other experts") in words
    assert "**" in words
    assert text.plain("Log-probabilities of the tokens differ by up to 0.5 nats") in words
    (request,) = asked
    assert request[1] == "float32"
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


def test_token_without_a_partner_says_so(show_at: OpenApp, asked: list[tuple[Path, str, RunRequest]]) -> None:
    app = upload(show_at(part=ONE, token="13"), "right", dumps(random_trace(seed=9, num_prompt=5, num_new=2)))
    assert "Run B has no token that matches token 13 of run A" in said(app)
    assert text.plain("Not aligned: 7 of 14 tokens of A") in said(app)
    assert re.search('class="chip[^"]* not-aligned"', strip(app))


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
