"""Architecture: what a model is made of."""

import streamlit as st

from pages.common import architecture_answers as answers
from pages.common import architecture_models, controls, session, text

st.markdown("What is the model made of? Every part with its tensors, its formula, and what it costs for one token.")
chosen = architecture_models.choose()
try:
    described = architecture_models.describe(chosen)
except (ValueError, OSError) as problem:
    st.error(f"This model cannot be described: {text.plain(problem)}. Choose a released one above.")
    st.stop()
st.markdown(answers.summary(described))
trace = session.current_trace()
left, right = st.columns([11, 9], gap="medium")
with right:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        part = answers.choose_part(described.parts)
        layer = answers.painted_layer(trace, described)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        context = answers.choose_context(described.parts)
        dtype = answers.choose_dtype()
    answers.details(part, described.parts, context, dtype)
with left:
    answers.picture(described, part, trace, layer)

for name, tab in controls.open_tabs(answers.TABS, "table"):
    with tab:
        answers.about(name, described, context, dtype)
