"""Compare: what changed between two runs, and whether rounding explains it."""

import streamlit as st

from pages.common import compare_answers, compare_sides, controls

st.markdown("What changed between two runs, and is it rounding? Where their tokens part ways, and by how much.")
a, b = compare_sides.choose()
found = compare_answers.compared(a, b)
compare_answers.verdict(found)
with st.container(horizontal=True, vertical_alignment="bottom"):
    token = controls.token(found.a)
    layer = controls.layer(found.a, options=found.choices["moe_layer"].values.tolist())
compare_answers.strip(found, token)
compare_answers.split_map(found, token, layer)

for name, tab in controls.open_tabs(compare_answers.TABS, "part"):
    with tab:
        compare_answers.about(name, found, token)
