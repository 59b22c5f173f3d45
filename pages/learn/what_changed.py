"""What changed: from DeepSeek-V3 to V3.2, claim by claim."""

import streamlit as st

from pages.common import what_changed_answers as answers

st.markdown(answers.texts()["answer"])
answers.counts()
with st.container(horizontal=True, vertical_alignment="bottom"):
    verdict = answers.choose_verdict()
    subject = answers.choose_subject()
chosen = answers.matching(verdict, subject)
answers.show(chosen)
answers.numbers(chosen)
