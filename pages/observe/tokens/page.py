"""Tokens: where the tokenizer splits the text."""

import streamlit as st

from pages.common import controls, guards, session, view
from pages.observe.tokens import overview
from pages.observe.tokens.tabs import TABS

st.markdown(
    "Where is the text cut into tokens?",
    help="A token is the piece of text that the model reads at once: a word, a part of one, a sign or a single byte. A "
    "special token, such as the one that begins a text, stands for no text.",
)
shown = session.shown()
trace = guards.require(shown.trace if shown else None, "token_id")
view.status(st.container(key="status").empty(), session.own_run(), shown)
overview.verdict(trace)
token = overview.strip(trace)
if token is not None:
    st.markdown(overview.about(trace, token))

for name, tab in controls.open_tabs(TABS, "of"):
    with tab:
        TABS[name](trace)
