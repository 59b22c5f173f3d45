"""The widgets of the Glossary: a search, and the subject."""

import streamlit as st

from pages.common import controls
from pages.learn.glossary import glossary

SEARCH_CHARACTERS = 60


def search() -> str:
    """Draw a field for a part of a word and return its text."""
    return st.text_input(
        "Search", key="word", bind="query-params", max_chars=SEARCH_CHARACTERS, placeholder="router, load, surprisal",
        help="Finds words of every subject: first by their spelling, then by what is said about them.",
    )  # fmt: skip


def subject(is_searching: bool) -> str:
    """Draw a list of subjects and return the chosen one; a search covers all of them."""
    options = glossary.subjects()
    controls.keep_within("subject", options)
    chosen = st.segmented_control(
        "Subject", options, default="Routing", required=True, key="subject", bind="query-params", disabled=is_searching
    )
    return chosen or options[0]
