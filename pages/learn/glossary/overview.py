"""The words of the Glossary: a sentence, a formula, and a link to the page that shows it."""

from collections.abc import Sequence

import streamlit as st

from pages.common.menu import title
from pages.learn.glossary.glossary import Word


def show(words: Sequence[Word]) -> None:
    """Show words below each other."""
    for word in words:
        with st.container(border=True):
            if word.formula:
                left, right = st.columns([5, 4], vertical_alignment="center", gap="medium")
                with left:
                    _explain(word)
                right.latex(rf"\small {word.formula}")
            else:
                _explain(word)


def _explain(word: Word) -> None:
    st.markdown(f"**{word.word}**  \n{word.says}")
    st.page_link(word.path, label=title(word.page), icon=":material/arrow_forward:", query_params=dict(word.choices))
