"""The Glossary page."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.glossary import glossary
from tests.pages.conftest import said


def test_words_of_a_subject_and_of_a_search(open_app: Callable[..., AppTest]) -> None:
    app = open_app().switch_page(str(page_path("glossary"))).run()
    assert f"**{len(glossary.words())} words**" in said(app)
    assert "The part of a layer that decides which experts a token goes to." in said(app)
    assert "surprisal" not in said(app)
    app.text_input(key="word").set_value("surprisal").run()
    assert "How unexpected a token was to the model" in said(app)
    assert any("log_2 p" in formula.value for formula in app.latex)
    assert "decides which experts" not in said(app)
    app.text_input(key="word").set_value("*<b>").run()
    assert not app.exception
    assert r"No word has \*\<b\> in it" in app.info[0].value
