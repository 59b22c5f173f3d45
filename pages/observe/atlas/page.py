"""Atlas: what each expert is for, over a whole corpus."""

import streamlit as st

from pages.common import controls, files
from pages.observe.atlas import choices, overview
from pages.observe.atlas.tabs import TABS

st.markdown(
    "What is each expert for? One text proves little; here a whole corpus was routed.",
    help="A claim on this page counts documents, not tokens: the tokens of one document are alike, so an interval over "
    "tokens would be many times too narrow.",
)
sweep = choices.sweep()
files.describe(f"atlas {sweep.folder.name}")
st.caption(overview.corpus(sweep))
overview.remarks(sweep)
with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = controls.layer(None, options=list(sweep.layers))
    expert = controls.expert(sweep.num_experts, 0)
for name, tab in controls.open_tabs(TABS, "part"):
    with tab:
        TABS[name](sweep, layer, expert)
