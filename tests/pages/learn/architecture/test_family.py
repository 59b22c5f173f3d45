"""Architecture of a model that transformers runs: its facts in place of a figure."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.router_rule import RouterRule
from pages.common import models
from pages.common.menu import page_path
from pages.learn.architecture import family
from tests.families import saved
from tests.pages.conftest import said
from tests.traces import QWEN3, V4, family_trace

PAGE = page_path("architecture")


def test_a_family_shows_its_facts_and_the_rule_that_its_run_found(
    monkeypatch: pytest.MonkeyPatch, show: Callable[..., AppTest]
) -> None:
    app = show(family_trace(QWEN3))
    monkeypatch.setattr(models, "available", lambda: {"family": Path(saved("qwen3_moe"))})
    monkeypatch.setattr(family, "name_of", lambda folder: "family")
    app.run()
    assert not app.exception
    assert not app.error
    (facts,) = (element.value for element in app.table)
    assert {"model", "experts", "router", "parameters", "engine"} <= set(facts["fact"])
    assert "affinities are the softmax of the logits; the best 2 are chosen" in said(app)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (V4, "sqrtsoftplus of the logits plus a bias on the affinities; the best 2 are chosen. The weights are their"),
        (None, "none (no rule gives the recorded experts)"),
    ],
)
def test_a_rule_in_words(rule: RouterRule | None, words: str) -> None:
    assert words in family.rule_in_words(family_trace(rule, table_layers=(0,)))
