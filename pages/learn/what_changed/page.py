"""What changed: from DeepSeek-V3 to V3.2 and to V4, claim by claim."""

import streamlit as st

from pages.common import controls, files
from pages.learn.what_changed import overview, tabs
from pages.learn.what_changed.claims import texts

st.markdown(texts()["answer"])
files.describe("DeepSeek-V2 to V4")
overview.counts()
for name, tab in controls.open_tabs(tabs.TABS, "view"):
    with tab:
        tabs.TABS[name]()
st.caption(texts()["notes"])
