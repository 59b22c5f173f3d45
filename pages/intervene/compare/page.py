"""Compare: what changed between two runs, and whether rounding explains it."""

import streamlit as st

from pages.common import controls, files
from pages.intervene.compare import choices, overview, tabs

st.markdown("What changed between two runs, and is it rounding? See where their routing splits, and by how much.")
a, b = choices.choose()
comparison = overview.compared(a, b)
files.describe(overview.both(comparison))
overview.verdict(comparison)
with st.container(horizontal=True, vertical_alignment="bottom"):
    token = controls.token(comparison.a)
    layer = controls.layer(comparison.a, options=comparison.choices["moe_layer"].values.tolist())
overview.strip(comparison, token)
overview.split_map(comparison, token, layer)

for name, tab in controls.open_tabs(tabs.TABS, "part"):
    with tab:
        tabs.TABS[name](comparison, token)
