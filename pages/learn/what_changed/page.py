"""What changed: from DeepSeek-V3 to V3.2, claim by claim."""

import streamlit as st

from pages.learn.what_changed import claims

st.markdown(claims.texts()["answer"])
claims.counts()
with st.container(horizontal=True, vertical_alignment="bottom"):
    verdict = claims.choose_verdict()
    subject = claims.choose_subject()
chosen = claims.matching(verdict, subject)
claims.show(chosen)
claims.numbers(chosen)
