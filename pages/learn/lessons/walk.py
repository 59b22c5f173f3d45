"""A session's place in a lesson: which step is open, and the view that the step shows.

The URL holds the place as `lesson=NAME&step=NUMBER`, with numbers from 1.
"""

import dataclasses
import re
from collections.abc import Mapping

import streamlit as st

from model.trace.facts.sources import FactError
from pages.common import controls, opening, prompt, results, session
from pages.common.menu import page_path
from pages.learn.lessons import facts, lesson, progress
from pages.learn.lessons.expressions import ExpressionError, evaluate
from pages.learn.lessons.lesson import Broken, Lesson, Step

NAME, STEP = IN_ADDRESS = ("lesson", "step")
LIST = page_path("lessons")  # the page that lists the lessons
_PLACE, _WANTED, _SET, _ASKED = results.LESSON, "lesson-wanted", "lesson-set", "lesson-asked"


@dataclasses.dataclass(frozen=True)
class Place:
    """A lesson and the number of the open step, from 0; the number after the last step is the lesson's end."""

    lesson: Lesson
    number: int

    @property
    def step(self) -> Step | None:
        """The open step or question of the self-test; None at the end."""
        return self.lesson.pages[self.number] if self.number < len(self.lesson.pages) else None

    @property
    def question(self) -> str:
        """The id of the step's question."""
        return self.lesson.question(self.number)


def current() -> Place | None:
    """Return the session's place; None if no lesson is open."""
    return st.session_state.get(_PLACE)


def refusal() -> str | None:
    """Return why the lesson of the URL, or the view of the step, cannot be opened; None if nothing was refused."""
    return st.session_state.get("lesson-refused")


def start(name: str, number: int = 0) -> None:
    """Open a lesson at a step, and the step's view. A callback."""
    if _enter(name, number):
        show_step()


def go(by: int) -> None:
    """Go forward or back by so many steps, and open the view of the step. A callback."""
    place = current()
    if place is not None:
        start(place.lesson.name, place.number + by)


def close() -> None:
    """Close the lesson; the page on show stays. A callback."""
    for key in (_PLACE, _WANTED, _SET, "lesson-refused"):
        st.session_state.pop(key, None)


def follow(place: Mapping[str, str], values: Mapping[str, str]) -> None:
    """Open the lesson of a teacher at the teacher's step, or close it if the teacher has none open.

    Args:
        place: what `address` returns in the teacher's session.
        values: choices of the teacher's view, which the caller opens.
    """
    if not place:
        close()
        return
    own = current()
    if own is None or address() != place:
        _enter(place[NAME], _number(place.get(STEP, "")))
    st.session_state[_SET] = dict(values)


def address() -> dict[str, str]:
    """Return the session's place as the URL holds it; an empty dict if no lesson is open."""
    place = current()
    return {} if place is None else {NAME: place.lesson.name, STEP: str(place.number + 1)}


def _number(written: str) -> int:
    """Return the number of a step, from 0, from its text in a URL; 0 if the text is no number."""
    return int(written) - 1 if re.fullmatch("[0-9]{1,3}", written) else 0


def _enter(name: str, number: int) -> bool:
    state, found = st.session_state, lesson.available().get(name)
    state["lesson-refused"] = None
    state.pop(_SET, None)
    state.pop(_WANTED, None)
    if not isinstance(found, Lesson):
        state.pop(_PLACE, None)
        why = found.reason if isinstance(found, Broken) else "no lesson has this name; the list is on the Lessons page"
        state["lesson-refused"] = f"the lesson {name!r:.60} cannot be opened: {why}"
        return False
    state[_PLACE] = Place(found, min(max(number, 0), len(found.pages)))
    progress.reached(found, state[_PLACE].number)
    return True


def take_from_address() -> None:
    """Open the lesson that the URL names, in the session's first script run; in each run, write the place to the URL.

    The step's view is opened if the URL names nothing but the lesson. Call it before any widget of a page.
    """
    state, url = st.session_state, st.query_params.to_dict()
    if not state.get(_ASKED):
        state[_ASKED] = True
        name = url.get(NAME)
        if name and _enter(name, _number(url.get(STEP, ""))) and not set(url) - set(opening.FRAME):
            show_step()
            st.rerun()
    place = address()
    for name in IN_ADDRESS:
        controls.write_address(name, place.get(name))


# --- the view of a step ----------------------------------------------------------------------------------------------


def show_step() -> None:
    """Open the view of the step; choices that depend on the run are set when the run is there. A callback."""
    place, state = current(), st.session_state
    if place is None or place.step is None:
        return
    written = _with_request(place)
    state[_WANTED] = written
    state[_SET] = {name: value for name, value in written.items() if not value.startswith("=")}
    opening.open_view(place.step.page, state[_SET])


def _with_request(place: Place) -> dict[str, str]:
    """Return the choices of the step's view. A step that names no run keeps that of the step before."""
    view = place.lesson.pages[place.number].view
    for earlier in reversed(place.lesson.pages[: place.number + 1]):
        request = {name: value for name, value in earlier.view.items() if name in prompt.RUN_KEYS}
        if request:
            return request | view
    return view


def complete_view() -> None:
    """Set the step's choices that depend on the run, once the run is there. Call it before the page is drawn."""
    place, state, run = current(), st.session_state, session.own_run()
    wanted = state.get(_WANTED)
    if place is None or place.step is None or wanted is None or (run is not None and run.waiting):
        return
    del state[_WANTED]
    computed = {name: value[1:] for name, value in wanted.items() if value.startswith("=")}
    bound = facts.of_session() if computed else None
    if bound is None:
        return
    try:
        state[_SET] = state[_SET] | {name: f"{evaluate(value, bound)}" for name, value in computed.items()}
    except (FactError, ExpressionError) as error:
        state["lesson-refused"] = f"the page could not be set up for this step: {error}"
        return
    opening.open_view(place.step.page, state[_SET])
    st.rerun()


def has_wandered() -> bool:
    """Return whether the page on show, or a choice on it, differs from what the step has set."""
    place, state = current(), st.session_state
    if place is None or place.step is None:
        return False
    page, values = opening.current_view()
    if page != place.step.page or state.get(_SET) is None:
        return True
    return any(_differs(name, value, values) for name, value in state[_SET].items())


def _differs(name: str, wanted: str, values: dict[str, str]) -> bool:
    """Return whether a choice differs from the wanted one. A choice that the page does not draw does not differ."""
    if name in values:
        return values[name] != wanted
    drawn = st.session_state.get(name)
    return isinstance(drawn, str) and drawn != wanted and name not in prompt.RUN_KEYS
