"""The model's card in the sidebar."""

import threading
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.frame.sidebar import described, sidebar
from pages.frame.sidebar.described import Description


def test_the_card_of_a_family_waits_for_its_facts_without_the_page(
    monkeypatch: pytest.MonkeyPatch, open_app: Callable[..., AppTest]
) -> None:
    class Read:
        done, value = threading.Event(), Description(family="jamba", parameters=2_000_000, card=("4 layers",))

    monkeypatch.setattr(sidebar, "described", lambda folder: Read)
    monkeypatch.setattr(sidebar, "MOST_WAIT", 0.0)
    app = open_app()
    assert not app.exception
    assert "Reading the folder's configuration and headers" in [caption.value for caption in app.sidebar.caption]
    Read.done.set()
    assert "2.0 M parameters  \n4 layers" in [caption.value for caption in app.run().sidebar.caption]


def test_a_folder_that_cannot_be_opened_shows_its_reason() -> None:
    assert sidebar.lines_of(Description(family="x", missing=("mine lacks config.json",))) == "Mine lacks config.json."
    assert described.Description(family="x").size is None
