"""Architecture: what a model is made of."""

import streamlit as st

from pages.common import controls, session, text
from pages.learn.architecture import described as architecture_models
from pages.learn.architecture import tabs

st.markdown("What is the model made of? Every part with its tensors, its formula, and what it costs for one token.")
chosen = architecture_models.choose()
try:
    described = architecture_models.describe(chosen)
except (ValueError, OSError) as problem:
    st.error(f"This model cannot be described: {text.plain(problem)}. Choose a released one above.")
    st.stop()
st.markdown(tabs.summary(described))
trace = session.current_trace()
left, right = st.columns([11, 9], gap="medium")
with right:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        part = tabs.choose_part(described.parts)
        layer = tabs.painted_layer(trace, described)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        context = tabs.choose_context(described.parts)
        dtype = tabs.choose_dtype()
    tabs.details(part, described.parts, context, dtype)
with left:
    tabs.picture(described, part, trace, layer)

for name, tab in controls.open_tabs(tabs.TABS, "table"):
    with tab:
        tabs.about(name, described, context, dtype)
