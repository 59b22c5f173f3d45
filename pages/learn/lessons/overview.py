"""The list of lessons with goal, minutes and progress, and the teacher's notes to print."""

import re
from collections.abc import Mapping

import streamlit as st
from streamlit.components.v2 import component

from pages.common import text
from pages.learn.lessons import lesson, progress, walk
from pages.learn.lessons.lesson import Broken, Lesson
from pages.learn.lessons.wording import markdown

Found = Mapping[str, Lesson | Broken]
_PRINT_CSS = """
<style>
@media print {
  [data-testid="stSidebar"], [data-testid="stHeader"], .st-key-lesson-list, .st-key-lesson, .st-key-notes-choice,
  .st-key-lesson-reset, .st-key-lesson-intro, h1.page-title, [data-testid="stExpander"] summary,
  [data-testid="stSkeleton"] {
    display: none !important; }
  [data-testid="stMain"], [data-testid="stAppViewContainer"], .stApp { position: static !important;
    overflow: visible !important; height: auto !important; display: block !important; }
  body, .stApp { background: #fff !important; color: #000 !important; }
  .st-key-lesson-notes * { color: #000 !important; background: none !important; }
  [data-testid="stExpander"] details { border: none !important; }
}
</style>
"""
_PRINT = component(
    "moe_loupe_print",
    html='<button type="button">Print these notes</button>',
    css="button { font: inherit; color: inherit; background: none; border: 1px solid var(--st-border-color); "
    "border-radius: var(--st-base-radius); padding: .35em .8em; cursor: pointer; min-height: 2.4em; }\n"
    "button:focus-visible { outline: 2px solid var(--st-primary-color); }",
    js="export default function ({ parentElement }) {\n"
    "  parentElement.querySelector('button').onclick = () => print();\n}",
)


def errors() -> None:
    """Show why the operator's folder cannot be read."""
    if problem := lesson.folder_error():
        st.warning(text.sentence(problem))


def lessons(found: Found) -> None:
    """Show every lesson with its goal, its minutes, the visitor's progress, and buttons that open it."""
    with st.container(key="lesson-list"):
        for number, each in enumerate((each for each in found.values() if isinstance(each, Lesson)), 1):
            _lesson(number, each)


def _lesson(number: int, each: Lesson) -> None:
    step, right = progress.of(each)
    with st.container(border=True):
        left, middle = st.columns([5, 2], vertical_alignment="center")
        with left:
            st.markdown(f"**{number}. {markdown(each.title)}**")
            st.markdown(markdown(each.goal))
            st.caption(f"{each.minutes} minutes, {len(each.steps)} steps. {_progress(each, step, right)}")
        with middle, st.container(horizontal=True):
            begun = 0 < step < len(each.steps)
            st.button(
                "Continue" if begun else "Begin", key=f"begin-{each.name}", on_click=walk.start,
                args=(each.name, step if begun else 0), type="primary",
            )  # fmt: skip
            if each.test:
                st.button("Self-test", key=f"test-{each.name}", on_click=walk.start, args=(each.name, len(each.steps)))


def _progress(each: Lesson, step: int, right: int) -> str:
    """Return the visitor's progress in words; an empty text before the first step."""
    total = len(each.pages)
    if not step:
        return ""
    tested = f" Self-test: {right} of {len(each.test)} right." if step > len(each.steps) and each.test else ""
    return (f"You are at step {step + 1}." if step < len(each.steps) else "You read all steps.") + (
        tested if step <= total else ""
    )


def broken(found: Found) -> None:
    """Name every file that is no lesson, with the line and the reason."""
    wrong = [each for each in found.values() if isinstance(each, Broken)]
    if wrong:
        lines = [f"{text.as_code(each.file)}: {text.message(each.reason)}" for each in wrong]
        st.warning("Not a lesson, so it is left out:  \n" + "  \n".join(lines))


def reset() -> None:
    """Show where the progress is kept, and a button that forgets it."""
    with st.container(horizontal=True, vertical_alignment="center", key="lesson-reset"):
        st.caption("Only this browser keeps your progress. Nobody else sees it.")
        st.button("Forget my progress", key="reset-progress", on_click=progress.reset, type="tertiary")


def notes(found: Found) -> None:
    """Show a lesson's notes for the teacher, with a button that prints them."""
    by_name = {name: each for name, each in found.items() if isinstance(each, Lesson)}
    if not by_name:
        return
    st.html(_PRINT_CSS)
    with st.expander("Notes for teachers", icon=":material/co_present:"):
        with st.container(horizontal=True, vertical_alignment="bottom", key="notes-choice"):
            name = st.selectbox(
                "Lesson", list(by_name), format_func=lambda name: by_name[name].title, key="notes", bind="query-params"
            )
            _PRINT(key="print-notes", height="content")
        with st.container(key="lesson-notes"):
            _notes(by_name[name])


def _notes(each: Lesson) -> None:
    st.markdown(f"## {markdown(each.title)}")
    st.markdown(f"**Goal:** {markdown(each.goal)}\n\n**Time:** {each.minutes} minutes")
    for title, lines in (("Say", each.say), ("Common errors", each.errors)):
        if lines:
            st.markdown(f"**{title}**\n\n" + "\n".join(f"- {markdown(line)}" for line in lines))
    st.markdown("**Steps**\n\n" + "\n".join(f"{number}. {_outline(step)}" for number, step in enumerate(each.steps, 1)))


def _outline(step: lesson.Step) -> str:
    """Return a step's text, question and task, with an ellipsis for each number that is computed on a run."""
    words, question, task = (
        markdown(re.sub(r"\{[^{}]*\}", "\N{HORIZONTAL ELLIPSIS}", part))
        for part in (step.text, step.ask.question if step.ask else "", step.do)
    )
    return " ".join(filter(None, (words, question and f"**{question}**", task)))
