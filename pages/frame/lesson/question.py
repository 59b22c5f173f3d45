"""The question of a step: the student answers, then sees whether the answer is right on the run on show."""

import streamlit as st

from model.trace.facts.sources import FactError
from pages.common import text
from pages.frame.lesson import style
from pages.frame.room import histogram, member
from pages.frame.room.member import Member
from pages.frame.room.rooms import RoomError
from pages.learn.lessons import facts, progress
from pages.learn.lessons.expressions import ExpressionError, Facts, fill
from pages.learn.lessons.judge import LETTERS, Verdict, is_right, judge, options_of, truth_of
from pages.learn.lessons.lesson import Ask
from pages.learn.lessons.walk import Place
from pages.learn.lessons.wording import markdown

_ANSWERS, _UNCOVERED, _REFUSED = "lesson-answers", "lesson-uncovered", "lesson-answer-refused"
UNKNOWN = "lesson-unknown"  # in the session's state: why the right answer is not known, as the page shows it
LABELS = {"number": "Your number", "token": "Number of the token", "expert": "Number of the expert"}


def show(place: Place, bound: Facts) -> bool:
    """Draw the question of the step, and return whether its answer is still hidden.

    In a room, the teacher sees the answers of the class and reveals; a student who follows waits for that.
    """
    assert place.step is not None
    assert place.step.ask is not None
    ask, ours = place.step.ask, _class()
    try:
        st.markdown(f"**{markdown(fill(ask.question, bound))}**")
        options = options_of(ask, bound)
    except (FactError, ExpressionError) as error:
        unknown(error)
        return True
    if ours is not None and ours.teaches:
        return _teach(place, ask, options, bound, ours)
    answer, is_revealed = answer_of(place), ours is not None and ours.revealed(place.question)
    if answer is None and not is_revealed:
        _answer(place, ask, options)
        return True
    if ours is not None and not is_revealed:
        st.markdown(f"You answered **{answer}**. Your teacher will show the right answer.")
        return True
    if answer is None:
        _list(options)
        _solve(ask, bound)
    else:
        _judged(ask, answer, bound)
    if ours is not None:
        _answers_of_all(place, ask, options, bound, ours)
    return False


def unknown(error: Exception, before: str = "") -> None:
    """Show why a number of the lesson is not known."""
    st.info(before + text.sentence(str(error)), icon=":material/hourglass_empty:")


def _class() -> Member | None:
    """Return the membership of a teacher, or of a student who follows; None for everybody else."""
    ours = member.of_session()
    return ours if ours is not None and (ours.teaches or ours.following) else None


def answer_of(place: Place) -> str | None:
    """Return the session's answer to the step's question; None if there is none."""
    return st.session_state.setdefault(_ANSWERS, {}).get(place.question)


def _answer(place: Place, ask: Ask, options: list[str]) -> None:
    key = f"lesson-answer-{place.question}"
    if ask.kind == "choice":
        letters = list(LETTERS[: len(options)])
        chosen = st.radio(
            "Your answer", letters, index=None, key=key, label_visibility="collapsed",
            format_func=lambda letter: f"{letter}. {markdown(options[letters.index(letter)])}",
        )  # fmt: skip
    elif ask.kind == "number":
        chosen = st.number_input(LABELS[ask.kind], value=None, key=key, format="%g", step=1.0)
    else:
        chosen = st.number_input(LABELS[ask.kind], 0, 10**6, value=None, key=key, step=1)
    st.button("Answer", key="lesson-answer", on_click=_take, args=(place, ask, key), disabled=chosen is None)
    if refused := st.session_state.pop(_REFUSED, None):
        st.warning(text.sentence(refused))


def _take(place: Place, ask: Ask, key: str) -> None:
    """Keep the answer, send it to the room, and count it in a self-test. A callback."""
    chosen = st.session_state.get(key)
    if chosen is None:
        return
    answer = chosen if isinstance(chosen, str) else f"{chosen:g}" if isinstance(chosen, float) else str(chosen)
    ours = _class()
    if ours is not None:
        try:
            ours.answer(place.question, answer)
        except RoomError as error:
            st.session_state[_REFUSED] = str(error)
            return
    st.session_state.setdefault(_ANSWERS, {})[place.question] = answer
    verdict = _verdict(ask, answer)
    progress.answered(place.lesson, place.number, verdict is not None and verdict.right)


def _verdict(ask: Ask, answer: str) -> Verdict | None:
    bound = facts.of_session()
    try:
        return None if bound is None else judge(ask, answer, bound)
    except (FactError, ExpressionError):
        return None


def _judged(ask: Ask, answer: str, bound: Facts) -> None:
    """Show whether the answer is right, the right answer, and why."""
    st.session_state[UNKNOWN] = None
    try:
        verdict = judge(ask, answer, bound)
        why = markdown(fill(ask.why, bound)) if ask.why else ""
    except (FactError, ExpressionError) as error:
        st.session_state[UNKNOWN] = str(error)
        unknown(error, f"You answered {answer}. ")
        return
    if verdict.right:
        st.success(f"**Right: {markdown(verdict.words.rstrip('.'))}.** {why}", icon=":material/check:")
    else:
        st.info(
            f"You answered {answer}. **The answer is {markdown(verdict.words.rstrip('.'))}.** {why}",
            icon=":material/lightbulb:",
        )


def _teach(place: Place, ask: Ask, options: list[str], bound: Facts, ours: Member) -> bool:
    """Draw the question for the teacher: the options, the answers of the class, and Reveal."""
    _list(options)
    _answers_of_all(place, ask, options, bound, ours)
    if not ours.revealed(place.question):
        st.button(
            "Reveal", key="lesson-reveal", on_click=ours.reveal, args=(place.question,), icon=":material/visibility:",
            help="Shows the class the right answer, and uncovers the page.",
        )  # fmt: skip
        return True
    _solve(ask, bound)
    return False


def _list(options: list[str]) -> None:
    """List the options of a choice; other kinds have none."""
    if options:
        st.markdown("\n".join(f"- {letter}. {markdown(each)}" for letter, each in zip(LETTERS, options, strict=False)))


def _solve(ask: Ask, bound: Facts) -> None:
    """Show the right answer and why, to those who gave none."""
    st.session_state[UNKNOWN] = None
    try:
        words = markdown(truth_of(ask, bound)[1].rstrip("."))
        st.info(f"**The answer is {words}.** {markdown(fill(ask.why, bound))}", icon=":material/lightbulb:")
    except (FactError, ExpressionError) as error:
        st.session_state[UNKNOWN] = str(error)
        unknown(error)


def _answers_of_all(place: Place, ask: Ask, options: list[str], bound: Facts, ours: Member) -> None:
    """Draw how many students gave each answer."""
    try:
        truth = truth_of(ask, bound)[0]
        right = {truth if isinstance(truth, str) else f"{truth:g}"}
        right |= {answer for answer in ours.counts(place.question) if is_right(ask, answer, truth)}
    except (FactError, ExpressionError):
        right = set()
    histogram.show(ours, place.question, LETTERS[: len(options)], right)


def cover(place: Place) -> None:
    """Cover the page's figures until the question is answered, or the visitor wants to see them before."""
    uncovered = st.session_state.setdefault(_UNCOVERED, set())
    if place.question in uncovered:
        return
    with st.container(key="lesson-cover", border=True, horizontal=True, vertical_alignment="center"):
        style.cover()
        st.markdown("**Answer first.** The figures of this page are covered until then.")
        st.button("Show anyway", key="lesson-uncover", on_click=uncovered.add, args=(place.question,))
