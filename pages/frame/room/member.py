"""The session's membership of a room: how it begins, and what a lesson may ask of it.

The URL `?room=CODE` makes the session a student's, `?room=CODE&teach=SECRET` the teacher's. A reload and a phone that
wakes up find their place again by the session's key (see `pages.common.kept`), so they are no second student.
"""

import dataclasses

import streamlit as st

from pages.common import controls
from pages.frame.room import rooms
from pages.frame.room.rooms import Room, RoomError, View

CODE, SECRET = "room", "teach"  # in the URL
STATE, NOTICE = "room", "room-notice"  # in the session's state
WRONG_SECRET = "This teacher link does not fit the room {code}. You joined the room as a student."


@dataclasses.dataclass(eq=False)
class Member:
    """A session in a room: the teacher's, or a student's."""

    room: Room
    key: str  # random; names the student to the room
    teaches: bool
    following: bool = True  # a student: whether the page follows the teacher's view
    leading: bool = True  # the teacher: whether the class gets the view
    seen: int = -1  # the room's version that this session has drawn
    view: View | None = None  # the view that this session opened last; the teacher's session: or pushed last

    @property
    def num_students(self) -> int:
        """Number of students in the room."""
        return self.room.num_students

    def answer(self, question: str, choice: str) -> None:
        """Send the student's answer to a question; the last answer counts.

        Args:
            question: id of the question: "LESSON/STEP", "LESSON/test/NUMBER", or the id of the teacher's own question.
            choice: the answer, at most 64 characters.

        Raises:
            RoomError: the answer is not taken; the message is one line for the student.
        """
        self.room.answer(self.key, question, choice)

    def answered(self, question: str) -> str | None:
        """Return the student's own answer to a question; None without one."""
        return self.room.answer_of(self.key, question)

    def counts(self, question: str) -> dict[str, int]:
        """Return how many students gave each answer, the most frequent first."""
        return self.room.counts(question)

    def reveal(self, question: str) -> None:
        """Show the class the right answer to a question. Only the teacher's session does this."""
        if self.teaches:
            self.room.reveal(question)

    def revealed(self, question: str) -> bool:
        """Return whether the teacher has shown the right answer."""
        return self.room.revealed(question)


class _Place:
    """A session's place in a room, from when it enters until it leaves, or the visitor closes the tab."""

    def __init__(self, member: Member) -> None:
        """Enter the room.

        Raises:
            RoomError: the room is closed or full.
        """
        self.member, self._left = member, False
        member.room.enter(member.key, member.teaches)

    def leave(self) -> None:
        """Leave the room; leaving twice is harmless."""
        if not self._left:
            self._left = True
            self.member.room.leave(self.member.key, self.member.teaches)


def _leave_all(places: list[_Place]) -> None:
    for place in places:
        place.leave()


@st.cache_resource(scope="session", show_spinner=False, on_release=_leave_all)
def _places() -> list[_Place]:
    """Return the places of this session; Streamlit calls `_leave_all` when the visitor closes or reloads the tab."""
    return []


def of_session() -> Member | None:
    """Return the session's membership of an open room; None if the session is in no room."""
    member = st.session_state.get(STATE)
    return member if member is not None and member.room.open else None


def take_from_address() -> None:
    """Enter the room that the URL names, in the first script run; in every run, keep the URL and the place.

    Call it after `kept.restore` and before any widget. `notice` shows why a room cannot be entered.
    """
    state, address = st.session_state, st.query_params.to_dict()
    if not state.get("room-asked"):
        state["room-asked"] = True
        code, secret = address.get(CODE, ""), address.get(SECRET, "")
        if code and (STATE not in state or state[STATE].room.code != rooms.clean(code)):
            enter(code, secret)
    member = state.get(STATE)
    if member is not None:
        try:
            _hold(member)
        except RoomError as error:
            del state[STATE]
            state[NOTICE] = str(error)
    _mirror()


def enter(code: str, secret: str = "") -> None:
    """Enter a room: as its teacher with the right secret, else as a student. A callback."""
    state = st.session_state
    state[NOTICE] = None
    try:
        room = rooms.ROOMS.find(code)
        teaches = room.allows(secret)
        if secret and not teaches:
            state[NOTICE] = WRONG_SECRET.format(code=room.code)
        _become(Member(room, state["kept-key"], teaches))
    except RoomError as error:
        state[NOTICE] = str(error)


def open_room() -> None:
    """Open a room, with this session as its teacher. A callback."""
    state = st.session_state
    state[NOTICE] = None
    try:
        room = rooms.ROOMS.open()
        _become(Member(room, state["kept-key"], teaches=True))
    except RoomError as error:
        state[NOTICE] = str(error)


def leave() -> None:
    """Leave the room; the page on show stays. A callback."""
    _leave_all(_places())
    _places().clear()
    st.session_state.pop(STATE, None)


def _become(member: Member) -> None:
    leave()
    _hold(member)
    st.session_state[STATE] = member


def _hold(member: Member) -> None:
    """Take the member's place in the room, unless this session has it already."""
    if not member.room.open:
        raise RoomError(rooms.closed(member.room.code))
    if all(place.member is not member for place in _places()):
        _places().append(_Place(member))
        member.seen, member.view = -1, None  # after a reload, the teacher's view is opened again


def _mirror() -> None:
    """Write the room to the URL, on every page; the secret only in the teacher's session."""
    member = of_session()
    if member is None and st.session_state.get(NOTICE):
        return  # a reload tries again to enter a room that was full
    controls.write_address(CODE, None if member is None else member.room.code)
    controls.write_address(SECRET, member.room.secret if member is not None and member.teaches else None)
