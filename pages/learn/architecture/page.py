"""Architecture: what a model is made of."""

import streamlit as st

from pages.common import controls, files, models, session, text
from pages.learn.architecture import catalogue, choices, family, overview, tabs

st.markdown("What is the model made of? Every part with its tensors, its formula, and its cost for one token.")
chosen = choices.model()
try:
    if folder := family.folder_of(chosen):
        files.describe(models.chosen())
        family.show(folder, session.current_trace())
        st.stop()
    model = catalogue.load(chosen)
except (ValueError, OSError) as error:
    st.error(f"This model cannot be described: {text.plain(error)}. Choose a released one above.")
    st.stop()
files.describe(model.name)
st.markdown(overview.summary(model), help=overview.SUMMARY_HELP)
trace = session.current_trace()
left, right = st.columns([11, 9], gap="medium")
with right:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        part = choices.part(model.parts)
        layer = choices.painted_layer(trace, model)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        context = choices.context(model.parts)
        dtype = choices.dtype(model.parts)
    overview.details(part, context, dtype)
with left:
    overview.figure(model, part, trace, layer)

for name, tab in controls.open_tabs(tabs.TABS, "table"):
    with tab:
        tabs.TABS[name](model, context, dtype)
