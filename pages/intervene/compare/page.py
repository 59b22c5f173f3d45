"""Compare: what changed between two runs, and whether rounding explains it."""

import streamlit as st

from pages.common import controls
from pages.intervene.compare import sides, tabs

st.markdown("What changed between two runs, and is it rounding? Where their tokens part ways, and by how much.")
a, b = sides.choose()
found = tabs.compared(a, b)
tabs.verdict(found)
with st.container(horizontal=True, vertical_alignment="bottom"):
    token = controls.token(found.a)
    layer = controls.layer(found.a, options=found.choices["moe_layer"].values.tolist())
tabs.strip(found, token)
tabs.split_map(found, token, layer)

for name, tab in controls.open_tabs(tabs.TABS, "part"):
    with tab:
        tabs.about(name, found, token)
