"""Lessons: seven questions, each answered on the app's own pages."""

import streamlit as st

from pages.learn.lessons import lesson, overview, progress, walk

with st.container(key="lesson-intro"):
    st.markdown("What would you like to understand? Each lesson asks first, and answers on the page beside it.")
if walk.current() is None:  # else the panel has done it
    progress.sync()
overview.errors()
found = lesson.available()
overview.lessons(found)
overview.broken(found)
overview.reset()
overview.notes(found)
