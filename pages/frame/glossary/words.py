"""Explain the technical words of every page: the first use of a word shows its meaning on hover and by keyboard."""

from pathlib import Path

import streamlit as st
from streamlit.components.v2 import component

from pages.learn.glossary import glossary

_COMPONENT = component(
    "moe_loupe_words", html="<span hidden></span>", js=Path(__file__).with_name("words.js").read_text(encoding="utf-8")
)


def show(page: str) -> None:
    """Mark the words of the glossary on a page; the glossary itself explains every word anyway.

    Args:
        page: name of the page that this script run draws.
    """
    marked = [] if page == "glossary" else [word for word in glossary.words() if word.marked]
    words = [{"word": word.word, "says": word.says, "forms": list(word.forms)} for word in marked]
    with st.container(key="glossary-words"):  # hidden by the styles of all pages
        _COMPONENT(key="glossary-words-of-page", data={"words": words}, height="content")
