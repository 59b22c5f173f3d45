"""What changed: from DeepSeek-V3 to V3.2, claim by claim."""

import streamlit as st

from pages.common import files
from pages.learn.what_changed import choices, overview
from pages.learn.what_changed.claims import matching, texts

st.markdown(texts()["answer"])
files.describe("DeepSeek-V3 to V3.2")
overview.counts()
with st.container(horizontal=True, vertical_alignment="bottom"):
    verdict = choices.verdict()
    subject = choices.subject()
chosen = matching(verdict, subject)
overview.claims(chosen)
overview.table(chosen)
