"""A lesson in a room as the pages show it: the class follows, answers, and sees the truth after the reveal."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.frame.room import asking, member, rooms
from pages.frame.room.rooms import Room, View
from tests.pages.conftest import said
from tests.traces import random_trace

Open = Callable[..., AppTest]
TRACE = random_trace(seed=9, num_prompt=5, num_new=9)


@pytest.fixture
def room() -> Room:
    return rooms.ROOMS.open()


def labels(app: AppTest) -> list[str]:
    assert not app.exception
    return [button.label for button in app.button]


def open_page(app: AppTest) -> str:
    return app.session_state["address-taken"]


def html(app: AppTest) -> str:
    return " ".join(element.proto.body for element in app.get("html"))


def test_teacher_opens_a_room_asks_and_reveals(open_app: Open) -> None:
    app = open_app().button(key="room-open").click().run()
    ours = app.session_state[member.STATE]
    assert ours.room.code in html(app)
    codes = " ".join(element.value for element in app.code)
    assert f"/?room={ours.room.code}" in codes
    assert ours.room.secret not in html(app) + said(app) + codes
    assert ours.room.view == View("explore", {"layer": "1", "head": "0"})
    ours.room.enter("student")
    app.number_input(key="room-token").set_value(3)
    app.button(key="room-ask-now").click().run()
    question = ours.room.question
    assert question.truth == asking.next_token(TRACE, 3, None).truth
    assert "Generate" not in labels(app)  # the page would show the answer
    ours.room.answer("student", question.id, question.options[0])
    app.run()
    assert "right" not in html(app).replace('class="right"', "").split("</style>")[-1]
    assert "1 answer of 1 student" in said(app)
    app.button(key="room-reveal").click().run()
    assert "\N{CHECK MARK} right" in html(app)
    assert "Generate" in labels(app)
    app.button(key="room-end").click().run()
    app.button(key="room-close").click().run()
    assert not ours.room.open
    assert "room" not in app.query_params
    assert "Generate" in labels(app)


def test_student_follows_answers_looks_around_and_comes_back(open_app: Open, room: Room) -> None:
    room.push(View("routing", {"layer": "2", "token": "4"}))
    app = open_app(room=room.code)
    assert (app.session_state["layer"], app.session_state["token"]) == (2, 4)
    assert "Why did this token go to these experts?" in said(app)
    question = room.ask(asking.expert(TRACE, 4, 2))
    app.run()
    assert "Why did this token" not in said(app)
    key = f"room-answer-{room.code}-{question.id}"
    app.button_group(key=key).set_value("3").run()
    assert room.counts(question.id) == {"3": 1}
    assert "Sent." in said(app)
    room.reveal(question.id)
    app.run()
    assert "\N{CHECK MARK} right" in html(app)
    assert "Why did this token" in said(app)
    app.button(key="room-stop").click().run()
    room.push(View("tokens", {}))
    assert "Why did this token" in said(app.run())
    app.button(key="room-follow").click().run()
    assert open_page(app) == "tokens"


def test_wrong_code_is_one_line_and_the_page_stays(open_app: Open) -> None:
    app = open_app()
    app.text_input(key="room-code").set_value("<b>*x*</b>")
    app.button(key="room-join").click().run()
    (warning,) = app.warning
    assert "No open room has the code" in warning.value
    assert "<b>" not in warning.value
    assert "Generate" in labels(app)
    assert not app.switch_page(page_path("tokens")).run().warning
