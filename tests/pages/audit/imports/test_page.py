"""The Imports page, and every page on what was imported."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.file import save
from pages.common.menu import page_path
from tests.pages.audit.imports.conftest import FILES
from tests.pages.conftest import said

OpenApp = Callable[..., AppTest]

PAGE = page_path("imports")
OBSERVE = [page_path(name) for name in ("explore", "routing", "expert_load", "tokens")]
OTHERS = [page_path("attention"), page_path("sparse_attention")]


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
                app.switch_page(page_name).query_params[key] = tab
                app.run()
            assert not app.exception, (page_name, tab)
            assert app.session_state[key] == tab


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
