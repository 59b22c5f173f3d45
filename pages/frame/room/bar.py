"""The line of the room above a page, and the teacher's own question in place of the page or above it."""

import html

import streamlit as st

from model.trace.trace import Trace
from pages.common import controls, session, text
from pages.frame.room import asking, follow, histogram, member
from pages.frame.room.member import Member
from pages.frame.room.rooms import Question, RoomError

REFUSED = "room-refused"  # in the session's state: why the last answer was not taken
CONTEXT = "white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid currentColor; padding-left: 12px"
MOST_PILLS = 64  # options that are shown as buttons


def show(page: str) -> bool:
    """Draw what the room shows above a page, and return whether it stands in place of the page.

    Args:
        page: name of the open page.
    """
    _notice(page)
    ours = member.of_session()
    if ours is None:
        return False
    question = ours.room.question
    if ours.teaches:
        _teacher(ours, question)
    else:
        _student(ours)
        if question is None or not ours.following:
            return False
        with st.container(border=True, key="room-question"):
            _question(ours, question)
    return question is not None and not ours.revealed(question.id)


def _notice(page: str) -> None:
    """Show why a room was not entered or was left, until the visitor opens another page."""
    state = st.session_state
    if state.get(member.NOTICE) and state.setdefault("room-notice-on", page) == page:
        st.warning(text.plain(state[member.NOTICE]))
    else:
        state.pop("room-notice-on", None)
        state[member.NOTICE] = None


def _student(ours: Member) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="room-bar"):
        if ours.following:
            st.markdown(f"Room {ours.room.code}: your page follows the teacher's.")
            st.button("Stop following", key="room-stop", on_click=follow.stop_following)
        else:
            st.markdown(f"Room {ours.room.code}: you do not follow the teacher now.")
            st.button("Follow the teacher", key="room-follow", on_click=follow.follow_again, type="primary")


def _words(question: Question) -> None:
    st.markdown(f"**{text.plain(question.text)}**")
    st.html(f'<p dir="auto" style="{CONTEXT}">{html.escape(question.context)}</p>')


def _question(ours: Member, question: Question) -> None:
    """Draw a question as a student sees it: the options, and after the reveal the answers of all."""
    _words(question)
    answered = ours.answered(question.id)
    if ours.revealed(question.id):
        histogram.show(ours, question.id, question.options, question.truth)
        if answered is not None:
            st.markdown("You were right." if answered in question.truth else f"Your answer: {text.as_code(answered)}")
        return
    key, arguments = f"room-answer-{ours.room.code}-{question.id}", (ours, question.id)
    if len(question.options) <= MOST_PILLS:
        st.pills(
            "Your answer", question.options, default=answered, format_func=text.as_code, key=key,
            on_change=_send, args=(*arguments, key),
        )  # fmt: skip
    else:
        st.selectbox(
            "Your answer", question.options, index=None, key=key, placeholder="Choose an expert",
            on_change=_send, args=(*arguments, key),
        )  # fmt: skip
    if refused := st.session_state.get(REFUSED):
        st.warning(text.plain(refused))
    elif answered is not None:
        st.markdown("Sent. You can change it until the teacher shows the answer.")


def _send(ours: Member, question: str, key: str) -> None:
    choice = st.session_state.get(key)
    st.session_state[REFUSED] = None
    if choice is not None:
        try:
            ours.answer(question, str(choice))
        except RoomError as error:
            st.session_state[REFUSED] = str(error)


def _teacher(ours: Member, question: Question | None) -> None:
    trace = session.current_trace()
    with st.expander("Ask the class", icon=":material/quiz:", expanded=question is not None, key="room-ask"):
        if question is None:
            if trace is not None and trace.num_tokens > 1:
                _compose(ours, trace)
            return
        _words(question)
        histogram.show(ours, question.id, question.options, question.truth)
        with st.container(horizontal=True):
            if not ours.revealed(question.id):
                st.button(
                    "Show the answer", key="room-reveal", on_click=ours.reveal, args=(question.id,), type="primary"
                )
            st.button("End the question", key="room-end", on_click=ours.room.end_question)


def _compose(ours: Member, trace: Trace) -> None:
    """Draw the choice of a question about the run on show."""
    kinds = ["next token", *(["expert"] if trace.has("expert_id") else [])]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control("Guess the", kinds, default=kinds[0], required=True, key="room-kind")
        last = trace.num_tokens - (2 if kind == "next token" else 1)
        controls.keep_within("room-token", range(last + 1))
        st.number_input(
            "after token" if kind == "next token" else "of token", 0, last, min(_chosen(trace), last), 1,
            key="room-token", width=130,
        )  # fmt: skip
        if kind == "expert":
            layers = controls.layers(trace, "moe_layer")
            controls.keep_within("room-layer", layers)
            st.selectbox("in layer", layers, key="room-layer", width=130)
        st.button("Ask", key="room-ask-now", on_click=_ask, args=(ours, trace), type="primary")
    st.caption(
        "Students see the text up to this token and the question, in place of their page, until you show the answer."
    )


def _chosen(trace: Trace) -> int:
    token = st.session_state.get("token")
    return trace.num_tokens - 1 if token is None else int(token)


def _ask(ours: Member, trace: Trace) -> None:
    state = st.session_state  # not the values that the script drew: a number may have been typed since
    if state["room-kind"] == "expert":
        ours.room.ask(asking.expert(trace, state["room-token"], state["room-layer"]))
    else:
        ours.room.ask(asking.next_token(trace, state["room-token"], session.vocabulary(trace)))
