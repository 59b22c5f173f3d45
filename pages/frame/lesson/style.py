"""Where the lesson stands, and what covers the page's figures while a question is open."""

import streamlit as st

from pages.common import session

WIDTH_REM = 22
# Beside the page where the page keeps 640 pixels; else above it. The sidebar takes 300 pixels while it is open.
_BESIDE = """
body:has(.st-key-lesson) [data-testid="stMainBlockContainer"] { padding-right: calc(%(width)srem + 1.6rem); }
.st-key-lesson { position: fixed !important; top: 3.75rem; right: 0; bottom: 0; width: %(width)srem !important;
  overflow-y: auto; overflow-x: hidden; z-index: 90; padding: 0.4rem 1rem 2rem;
  background: var(--lesson-back); border-left: 1px solid var(--lesson-line); }
"""
CSS = """
<style>
.st-key-lesson { --lesson-back: %(back)s; --lesson-line: %(line)s; }
.st-key-lesson [data-testid="stExpander"] details { border: none; background: none; }
.st-key-lesson [data-testid="stExpanderDetails"] { padding: 0 0.2rem; }
.st-key-lesson summary { padding-left: 0.2rem; }
@media (max-width: 1099px) { .st-key-lesson { border: 1px solid var(--lesson-line); border-radius: 6px;
  background: var(--lesson-back); padding: 0.2rem 0.8rem 0.8rem; } }
@media (min-width: 1240px) { %(beside)s }
@media (min-width: 1100px) and (max-width: 1239px) {
  .st-key-lesson { border: 1px solid var(--lesson-line); border-radius: 6px; background: var(--lesson-back);
    padding: 0.2rem 0.8rem 0.8rem; }
}
/* A question of the teacher stands in place of the page. It comes first where the lesson would stand above it. */
body:has(.st-key-room-question, .st-key-room-end) .st-key-lesson-cover { display: none; }
html[data-presenting]:has(.st-key-room-question, .st-key-room-end) .st-key-lesson { display: none; }
@media (max-width: 1239px) { body:has(.st-key-room-question, .st-key-room-end) .st-key-lesson { display: none; } }
@media print { .st-key-lesson { display: none; } }
</style>
"""
# Elements that may give the answer away: figures, tables, and the sentences of the page. Widgets stay.
_COVERED = ", ".join(
    f'[data-testid="{name}"]'
    for name in (
        *("stPlotlyChart", "stDataFrame", "stTable", "stMetric"),
        *("stMarkdown", "stCaptionContainer", "stHtml", "stImage", "stCode"),
    )
)
COVER = """
<style>
[data-testid="stLayoutWrapper"]:has(> .st-key-lesson-cover) ~ * :is(%(covered)s) {
  background: %(line)s; border-radius: 6px; opacity: 0.6; }
[data-testid="stLayoutWrapper"]:has(> .st-key-lesson-cover) ~ * :is(%(covered)s) > *,
[data-testid="stLayoutWrapper"]:has(> .st-key-lesson-cover) ~ * [data-testid^="stBidiComponent"] {
  visibility: hidden !important; }
</style>
"""


def apply() -> None:
    """Place the lesson beside the page, or above it on a narrow screen."""
    look = session.theme()
    beside = _BESIDE % {"width": WIDTH_REM}
    st.html(CSS % {"back": look.background, "line": look.grid, "beside": beside})


def cover() -> None:
    """Cover figures, tables and sentences of the page."""
    st.html(COVER % {"covered": _COVERED, "line": session.theme().grid})
