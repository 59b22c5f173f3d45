"""Collapse: what happens to the experts when nothing balances them, trained on the spot."""

import streamlit as st

from pages.common import files
from pages.learn.collapse import choices, overview
from pages.learn.collapse.runs import SIDES

st.markdown("What keeps experts from collapsing? Train two layers of 16 experts here, balanced and not, and watch.")
files.describe("models of two layers with 16 experts each, trained here")
overview.verdict()
for column, side in zip(st.columns(2, gap="large"), SIDES, strict=True):
    with column:
        choices.side(side)
overview.watch()
