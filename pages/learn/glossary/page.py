"""Glossary: what the technical words mean."""

import streamlit as st

from pages.common import text
from pages.learn.glossary import choices, glossary, overview

words = glossary.words()
st.markdown("What does this word mean?")
st.markdown(
    f"**{len(words)} words**, each with a sentence, its formula, and a page that shows it. Other pages mark a word at "
    "its first use: point at it, or reach it with Tab."
)
with st.container(horizontal=True, vertical_alignment="bottom"):
    query = choices.search()
    subject = choices.subject(is_searching=bool(query.strip()))
shown = glossary.matching(query) if query.strip() else [word for word in words if word.subject == subject]
if not shown:
    st.info(f"No word has {text.plain(query)} in it. Try a part of the word, or choose a subject.")
overview.show(shown)
