"""The lesson beside the page: the text of a step, its question, and what the student should see."""

import streamlit as st

from model.trace.facts.sources import FactError
from pages.common import session, text
from pages.frame.lesson import question, style
from pages.frame.room import member
from pages.learn.lessons import expressions, facts, progress, walk
from pages.learn.lessons.expressions import ExpressionError, Facts
from pages.learn.lessons.judge import holds
from pages.learn.lessons.lesson import Claim
from pages.learn.lessons.walk import Place
from pages.learn.lessons.wording import markdown

_WAITS = "lesson-waits"
WAIT = "The numbers of this step appear when the run has ended."


def show(page: str) -> None:
    """Draw the open lesson, if there is one. Call it before anything of the page is drawn.

    Args:
        page: name of the page that this script run draws.
    """
    walk.take_from_address()
    place, refused = walk.current(), walk.refusal()
    if place is None:
        if refused:
            st.warning(text.sentence(refused))
        return
    walk.complete_view()
    with st.container(key="lesson"):
        style.apply()
        progress.sync()
        with st.expander(_title(place), expanded=True, key=f"lesson-{place.lesson.name}"):
            _head(place)
            if refused:
                st.warning(text.sentence(refused))
            covered = _body(place)
            _steer(place)
    if covered and place.step is not None and place.step.page == page:
        question.cover(place)


def catch_up() -> None:
    """Begin the script anew if the run has ended since the lesson was drawn. Call it when the page has been drawn."""
    run = session.own_run()
    if st.session_state.get(_WAITS) and not (run is not None and run.waiting):
        st.session_state[_WAITS] = False
        st.rerun()


def _title(place: Place) -> str:
    return f"Lesson: {text.plain(place.lesson.title)}"


def _head(place: Place) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(_where(place))
        st.button("Close", key="lesson-close", on_click=walk.close, type="tertiary", icon=":material/close:")


def _where(place: Place) -> str:
    """Return in words which step of the lesson is open."""
    own = place.number - len(place.lesson.steps)
    if place.step is None:
        return "The end"
    if own >= 0:
        return f"Self-test, question {own + 1} of {len(place.lesson.test)}"
    return f"Step {place.number + 1} of {len(place.lesson.steps)}"


def _body(place: Place) -> bool:
    """Draw the step, and return whether its question is open."""
    if place.step is None:
        _end(place)
        return False
    bound = facts.of_session()
    run = session.own_run()
    st.session_state[_WAITS] = run is not None and run.waiting
    if bound is None or st.session_state[_WAITS]:
        st.caption(WAIT)
        return place.step.ask is not None
    _say(place.step.text, bound)
    if walk.has_wandered():
        st.button(
            "Show it on the page", key="lesson-show", on_click=walk.show_step, icon=":material/visibility:",
            help="The page shows something else now. This brings back what the step is about.",
        )  # fmt: skip
    is_open = place.step.ask is not None and question.show(place, bound)
    if not is_open:
        if place.step.do:
            _say(place.step.do, bound, ":material/touch_app: ")  # the page is covered before
        for claim in place.step.claims:
            _claim(claim, bound)
    return is_open


def _say(words: str, bound: Facts, before: str = "") -> None:
    """Show a text with its computed numbers; if one is not known, why."""
    if not words:
        return
    try:
        st.markdown(before + markdown(expressions.fill(words, bound)))
    except (FactError, ExpressionError) as error:
        question.unknown(error)


def _claim(claim: Claim, bound: Facts) -> None:
    """Show what the student should see, or that it is not so on the run on show."""
    try:
        is_so, computed = holds(claim, bound)
        words = markdown(expressions.fill(claim.text, bound))
    except (FactError, ExpressionError) as error:
        if str(error) != st.session_state.get(question.UNKNOWN):  # the question has said so
            question.unknown(error)
        return
    if is_so:
        st.markdown(f":material/check: {words}")
    else:
        sides = f" ({text.plain(computed)} is false)" if computed else ""
        st.markdown(f":material/close: **On this text it is not so:** {words}{sides}")


def _end(place: Place) -> None:
    lesson, right = place.lesson, progress.of(place.lesson)[1]
    if lesson.test:
        st.markdown(f"You answered **{right} of {len(lesson.test)}** questions of the self-test right.")
    st.markdown(f"The goal of this lesson: {markdown(lesson.goal)}")
    st.page_link(walk.LIST, label="All lessons", icon=":material/school:")


def _steer(place: Place) -> None:
    ours = member.of_session()
    if ours is not None and ours.following and not ours.teaches:
        st.caption("Your teacher opens the next step.")
        return
    with st.container(horizontal=True, horizontal_alignment="distribute", key="lesson-steer"):
        st.button(
            "Back", key="lesson-back", on_click=walk.go, args=(-1,), disabled=place.number == 0,
            icon=":material/arrow_back:",
        )  # fmt: skip
        if place.step is not None:
            st.button(
                _next(place), key="lesson-next", on_click=walk.go, args=(1,), type="primary",
                icon=":material/arrow_forward:", icon_position="right",
            )  # fmt: skip


def _next(place: Place) -> str:
    """Return the label of the button to the next step."""
    lesson = place.lesson
    if place.number + 1 == len(lesson.pages):
        return "Finish"
    return "Self-test" if place.number + 1 == len(lesson.steps) else "Next"
