"""The room in the sidebar: its entrance, the code and link that a teacher shows, and the exit of a student."""

import html
import re

import streamlit as st

from pages.common import prompt, session
from pages.frame.room import member
from pages.frame.room.member import Member
from pages.frame.sidebar import qr

SECONDS_BETWEEN_COUNTS = 2.0
QR_PIXELS = 220
HERE = r"localhost|127\.0\.0\.1|\[::1\]"
ONLY_HERE = (
    "This link works on this computer only, because you opened the app as {host}. Open it under the computer's name or "
    "address in your network, then open the room."
)
NOT_PUSHED = "The class does not get this run: {reason}"


def show() -> None:
    """Draw the room in the sidebar."""
    ours = member.of_session()
    with st.sidebar:
        if ours is None:
            with st.expander("Classroom", icon=":material/groups:"):
                _enter()
        elif ours.teaches:
            with st.container(border=True, key="room-teacher"):
                _teacher(ours)
        else:
            with st.container(border=True, key="room-student"):
                st.markdown(f"Room **{ours.room.code}**")
                st.button("Leave the room", key="room-leave", on_click=member.leave, width="stretch")


def _enter() -> None:
    st.text_input("Code of the room", key="room-code", max_chars=20, placeholder="six letters")
    st.button("Join", key="room-join", on_click=_join, width="stretch")
    st.caption("Or teach: open a room, and your class follows your page.")
    st.button("Open a room", key="room-open", on_click=member.open_room, width="stretch")


def _join() -> None:
    typed = st.session_state.get("room-code") or ""
    if typed.strip():
        member.enter(typed)


def _teacher(ours: Member) -> None:
    url = student_link(st.context.url or "", ours.room.code)
    st.html(f'<div class="room-code">{html.escape(ours.room.code)}</div>' + STYLE)
    st.fragment(_count, run_every=SECONDS_BETWEEN_COUNTS)(ours)
    if here := re.match(f"https?://({HERE})[:/]", url):
        st.caption(ONLY_HERE.format(host=here[1]))
    st.caption("Students open this link or scan the code:")
    st.code(url, language=None, wrap_lines=True)
    st.html(qr.image(url, QR_PIXELS))
    ours.leading = st.toggle(
        "The class follows this page", value=ours.leading, key="room-leading",
        help="Off: you can prepare something, and the class keeps the view that it has.",
    )  # fmt: skip
    if lost := prompt.left_out(session.shown()):
        st.caption(NOT_PUSHED.format(reason=lost))
    with st.popover("Close the room", width="stretch"):
        st.markdown("The room and all answers are gone then. Students keep the page that they see.")
        st.button("Close it for all", key="room-close", on_click=_close)


def _count(ours: Member) -> None:
    number = ours.num_students
    st.markdown(f"**{number}** student{'s' * (number != 1)} in the room")


def _close() -> None:
    ours = member.of_session()
    if ours is not None and ours.teaches:
        ours.room.close()
        member.leave()


def student_link(page_url: str, code: str) -> str:
    """Return the link for students: the first page of the app at `page_url`, with the room's code.

    >>> student_link("http://host:8501/app/routing?teach=x", "BCDFGH")
    'http://host:8501/app/?room=BCDFGH'
    >>> student_link("http://host:8501", "BCDFGH")
    'http://host:8501/?room=BCDFGH'
    """
    found = re.match(r"(\w+://[^/?#]*)((?:/[^/?#]*)*?)(/[^/?#]*)?(?:[?#]|$)", page_url)
    return f"{found[1] + found[2] if found else ''}/?{member.CODE}={code}"


STYLE = """<style>
.room-code { font-family: monospace; font-size: 2.4rem; font-weight: 700; letter-spacing: .12em; line-height: 1.1; }
</style>"""
