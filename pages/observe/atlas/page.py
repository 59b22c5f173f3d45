"""Atlas: what each expert is for, over a whole corpus."""

import streamlit as st

from pages.common import controls, files
from pages.observe.atlas import choices, overview, purpose
from pages.observe.atlas.tabs import TABS

st.markdown(
    "What is each expert for? One text proves little; here a whole corpus was routed.",
    help="Claims on this page count documents, not tokens: the tokens of one document are alike, and an interval over "
    "tokens would be many times too narrow.",
)
with st.container(horizontal=True, vertical_alignment="bottom"):
    sweep = choices.sweep()
    kind = choices.kind(sweep)
files.describe(f"atlas {sweep.folder.name}")
st.caption(overview.corpus(sweep))
overview.remarks(sweep)
with st.container(horizontal=True, vertical_alignment="bottom"):
    rows, label = (choices.rows(), choices.label(sweep, kind)) if kind else (choices.LAYERS, choices.ANY)
    layer = controls.layer(None, options=list(sweep.layers))
    expert = controls.expert(sweep.num_experts, 0)
with choices.damage_shown(sweep):
    if kind:
        st.markdown(purpose.verdict(sweep, kind))
        purpose.lift_map(sweep, kind, label, rows, layer)
        st.markdown(purpose.by_label(sweep, kind))
    for name, tab in controls.open_tabs(TABS, "part"):
        with tab:
            TABS[name](sweep, kind, layer, expert)
