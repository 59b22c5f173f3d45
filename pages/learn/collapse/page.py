"""Collapse: what happens to the experts when nothing balances them, trained on the spot."""

import streamlit as st

from pages.learn.collapse import sides

st.markdown(
    "What keeps experts from collapsing? Train a model of 16 experts here and now, balanced and not, and watch."
)
for column, name in zip(st.columns(2, gap="large"), sides.SIDES, strict=True):
    with column:
        sides.side(name)
sides.watch()
