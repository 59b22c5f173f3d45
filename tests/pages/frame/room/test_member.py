"""How a session enters a room by its URL, comes back after a reload, and leaves."""

from collections.abc import Callable

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.common import limits
from pages.frame.room import member, rooms
from pages.frame.room.rooms import Room, View
from tests.pages.conftest import SESSION

Open = Callable[..., AppTest]


@pytest.fixture
def room() -> Room:
    return rooms.ROOMS.open()


def close_tab() -> None:
    st.runtime.caching.clear_session_resource_cache(SESSION)


def joined(app: AppTest) -> member.Member | None:
    assert not app.exception
    return app.session_state.get(member.STATE)


def address(app: AppTest) -> dict[str, str]:
    return {name: values if isinstance(values, str) else values[0] for name, values in app.query_params.items()}


def test_link_makes_a_student_and_typing_does_not_matter(open_app: Open, room: Room) -> None:
    app = open_app(room=f" {room.code.lower()}")
    student = joined(app)
    assert student is not None
    assert (student.room, student.teaches, student.num_students) == (room, False, 1)
    assert address(app)["room"] == room.code
    assert "session" in address(app)
    app.run()
    assert room.num_students == 1


def test_closed_tab_frees_the_place_and_a_reload_is_the_same_student(open_app: Open, room: Room) -> None:
    app = open_app(room=room.code)
    key = joined(app).key
    close_tab()
    assert room.num_students == 0
    again = open_app(room=room.code, session=address(app)["session"])
    assert joined(again).key == key
    assert room.num_students == 1


def test_teacher_link_teaches_and_the_address_keeps_it(open_app: Open, room: Room) -> None:
    app = open_app(room=room.code, teach=room.secret)
    assert joined(app).teaches
    assert address(app)["teach"] == room.secret
    assert (room.num_students, room.empty) == (0, False)


def test_two_sessions_of_a_teacher_do_not_answer_each_other(open_app: Open, room: Room) -> None:
    room.push(View("tokens", {}))
    app = open_app(room=room.code, teach=room.secret)
    room.push(View("routing", {"layer": "2"}))  # by the other session
    version = room.version
    for _ in range(3):
        app.run()
    assert not app.exception
    assert (room.view, room.version) == (View("routing", {"layer": "2"}), version)


def test_wrong_secret_makes_a_student_and_controls_nothing(open_app: Open, room: Room) -> None:
    app = open_app(room=room.code, teach="f" * 32)
    student = joined(app)
    assert not student.teaches
    student.reveal("routing/1")
    assert not room.revealed("routing/1")
    assert "teach" not in address(app)
    assert room.code in app.session_state[member.NOTICE]


def test_refused_room_leaves_the_page_as_it_is(open_app: Open, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROOM_STUDENTS", 1)
    room.enter("somebody")
    app = open_app(room=room.code)
    assert joined(app) is None
    assert "full" in app.session_state[member.NOTICE]
    assert address(app)["room"] == room.code  # a reload tries again
    assert "'QQQQQQ'" in open_app(room="qqqqqq").session_state[member.NOTICE].upper()


def test_room_that_closes_is_left(open_app: Open, room: Room) -> None:
    app = open_app(room=room.code)
    room.close()
    app.run()
    assert joined(app) is None
    assert "closed" in app.session_state[member.NOTICE]
