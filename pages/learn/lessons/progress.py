"""A visitor's progress in the lessons, which only the visitor's browser keeps."""

import json
import re
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

from pages.learn.lessons.lesson import Lesson

_STATE = "lesson-progress"
MOST_BYTES, MOST_LESSONS, MOST_STEPS = 50_000, 200, 100
# The browser sends what it keeps once; then it keeps what the server sends.
JS = """
const NAME = 'moe-loupe-lessons';
export default function ({ data, setStateValue }) {
  try {
    if (!data.loaded) setStateValue('kept', localStorage.getItem(NAME) ?? '{}');
    else if (data.kept === '{}') localStorage.removeItem(NAME);
    else localStorage.setItem(NAME, data.kept);
  } catch {
    if (!data.loaded) setStateValue('kept', '{}');  // the browser allows no storage: progress ends with the tab
  }
}
"""
_COMPONENT = component("moe_loupe_progress", html="<i hidden></i>", js=JS)


def sync() -> None:
    """Read the progress from the browser in the first script run that calls this function; later, send it there."""
    state = st.session_state
    loaded = state.get("progress-loaded", False)
    data = {"loaded": loaded, "kept": json.dumps(_own(), separators=(",", ":"))}
    _COMPONENT(key="progress", data=data, default={"kept": ""}, on_kept_change=_take, height="content")


def _take() -> None:
    kept = (st.session_state.get("progress") or {}).get("kept")
    if isinstance(kept, str) and not st.session_state.get("progress-loaded"):
        st.session_state["progress-loaded"] = True
        _merge(read(kept))


def read(kept: str) -> dict[str, dict[str, Any]]:
    """Return the progress by lesson from what a browser sent; anything else than progress is left out.

    >>> read('{"1-tokens": {"step": 3, "right": [1], "x": 2}, "<b>": {"step": 1}, "2": 7}')
    {'1-tokens': {'step': 3, 'right': [1]}}
    """
    try:
        stored = json.loads(kept) if len(kept) <= MOST_BYTES else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(stored, dict):
        return {}
    return {
        name: {"step": each["step"], "right": [number for number in each.get("right", []) if _is_step(number)]}
        for name, each in list(stored.items())[:MOST_LESSONS]
        if re.fullmatch(r"[\w. -]{1,80}", name)
        and isinstance(each, dict)
        and _is_step(each.get("step"))
        and isinstance(each.get("right", []), list)
    }


def _is_step(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_STEPS


def _merge(stored: dict[str, dict[str, Any]]) -> None:
    for name, each in stored.items():
        entry = _entry(name)
        entry["step"] = max(entry["step"], each["step"])
        entry["right"] = sorted({*entry["right"], *each["right"]})


def _own() -> dict[str, dict[str, Any]]:
    return st.session_state.setdefault(_STATE, {})


def _entry(name: str) -> dict[str, Any]:
    return _own().setdefault(name, {"step": 0, "right": []})


def reached(lesson: Lesson, number: int) -> None:
    """Note that the visitor has opened step `number`, from 0; the number after the last one is the lesson's end."""
    entry = _entry(lesson.name)
    entry["step"] = max(entry["step"], number)


def answered(lesson: Lesson, number: int, right: bool) -> None:
    """Note the first answer to a question of the self-test."""
    if number >= len(lesson.steps) and right:
        entry = _entry(lesson.name)
        entry["right"] = sorted({*entry["right"], number - len(lesson.steps) + 1})


def of(lesson: Lesson) -> tuple[int, int]:
    """Return the furthest step that was opened, from 0, and how many questions of the self-test were right."""
    entry = _own().get(lesson.name, {"step": 0, "right": []})
    return min(entry["step"], len(lesson.pages)), len(
        [number for number in entry["right"] if number <= len(lesson.test)]
    )


def reset() -> None:
    """Forget all progress and answers, here and in the browser. A callback."""
    st.session_state[_STATE] = {}
    st.session_state["progress-loaded"] = True
    st.session_state.pop("lesson-answers", None)
