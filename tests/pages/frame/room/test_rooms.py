"""Rooms without Streamlit: limits, answers, and what one client can do to others."""

import dataclasses
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.common import limits
from pages.frame.room.rooms import (
    CHOICE_CHARACTERS,
    CODE_LENGTH,
    LETTERS,
    Question,
    Room,
    RoomError,
    Rooms,
    View,
    clean,
)

LESSON = View("routing", {"lesson": "routing", "step": "2"})
ASKED = Question("", "expert", "Which expert?", ("0", "1", "2"), frozenset({"1"}))


@dataclasses.dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def room(clock: Clock) -> Room:
    room = Rooms(clock).open()
    room.push(LESSON)
    return room


def refused(act: Callable[..., object], *values: str) -> str:
    with pytest.raises(RoomError) as error:
        act(*values)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_code_is_six_letters_and_is_found_as_people_type_it(clock: Clock) -> None:
    rooms = Rooms(clock)
    room = rooms.open()
    assert len(room.code) == CODE_LENGTH
    assert set(room.code) <= set(LETTERS)
    for typed in (
        room.code,
        room.code.lower(),
        f" {room.code[:3]} {room.code[3:]}\n",
        f"{room.code[:3]}-{room.code[3:]}",
    ):
        assert rooms.find(typed) is room


@pytest.mark.parametrize("typed", ["", "ABCDEF", "<b>x</b>", "q" * 10**6, "\N{SNOWMAN}"])
def test_unknown_code_is_refused_in_one_short_line(typed: str) -> None:
    assert len(refused(Rooms().find, typed)) < 200


def test_room_closes_after_its_time_and_keeps_nothing(clock: Clock) -> None:
    rooms = Rooms(clock)
    room = rooms.open()
    room.push(LESSON)
    room.enter("a")
    room.answer("a", "routing/2", "1")
    clock.now = limits.ROOM_SECONDS - 1
    assert rooms.find(room.code) is room
    clock.now = limits.ROOM_SECONDS
    assert "is closed" in refused(room.enter, "b")
    assert "is closed" in refused(room.answer, "a", "routing/2", "1")
    assert room.code in refused(rooms.find, room.code)
    assert (room.view, room.counts("routing/2"), room.num_students) == (None, {}, 0)


def test_full_room_takes_known_students_only_until_a_place_is_free(room: Room) -> None:
    for number in range(limits.ROOM_STUDENTS):
        room.enter(str(number))
    assert "full" in refused(room.enter, "late")
    room.enter("0")  # a second tab, or a reload that comes before the old session has ended
    room.leave("0")
    assert "full" in refused(room.enter, "late")
    room.leave("0")
    room.enter("late")
    assert room.num_students == limits.ROOM_STUDENTS


def test_server_holds_a_number_of_rooms_and_gives_up_empty_ones_first(clock: Clock) -> None:
    rooms = Rooms(clock)
    opened = [rooms.open() for _ in range(limits.ROOMS)]
    for room in opened:
        room.enter("teacher", teaches=True)
    assert str(limits.ROOMS) in refused(rooms.open)
    opened[7].leave("teacher", teaches=True)
    rooms.open()
    assert [room.open for room in opened].index(False) == 7
    assert len(rooms) == limits.ROOMS


def test_only_the_secret_is_allowed(room: Room) -> None:
    assert room.allows(room.secret)
    assert not any(map(room.allows, ("", room.code, room.secret[:-1], room.secret.upper() + "x", "\udc80")))


def test_version_rises_only_when_the_class_has_something_new_to_see(room: Room) -> None:
    before = room.version
    room.push(View("routing", dict(LESSON.values)))
    room.enter("a")
    room.answer("a", "routing/2", "1")
    assert room.version == before
    room.push(View("routing", {**LESSON.values, "step": "3"}))
    room.reveal("routing/2")
    room.reveal("routing/2")
    asked = room.ask(ASKED)
    room.end_question()
    room.close()
    assert room.version == before + 5
    assert asked.id == "free/1"


def test_answer_to_what_is_not_asked_is_refused(room: Room, clock: Clock) -> None:
    room.enter("a")
    asked = room.ask(ASKED)
    room.answer("a", asked.id, "2")
    for question in ("free/2", "other/2", "routing/x", "routing/2/3", "routing/123", "", "<b>"):
        assert "not open" in refused(room.answer, "a", question, "1")
    clock.now = 10
    for choice in ("3", "", "<script>", "9" * 10**6):
        assert "none of the possible" in refused(room.answer, "a", asked.id, choice)
    for choice in ("", "9" * (CHOICE_CHARACTERS + 1)):
        assert "none of the possible" in refused(room.answer, "a", "routing/2", choice)
    room.reveal(asked.id)
    assert "already shown" in refused(room.answer, "a", asked.id, "1")
    assert room.counts(asked.id) == {"2": 1}
    room.end_question()
    assert "not open" in refused(room.answer, "a", asked.id, "1")
    assert "not in the room" in refused(room.answer, "stranger", "routing/2", "1")


def test_flood_of_answers_from_one_client_is_slowed_and_others_are_not(room: Room, clock: Clock) -> None:
    room.enter("flood")
    room.enter("calm")
    refusals = 0
    for number in range(10_000):
        clock.now = number / 10_000
        try:
            room.answer("flood", "routing/2", str(number))
        except RoomError:
            refusals += 1
    assert refusals >= 10_000 - 12
    assert "too fast" in refused(room.answer, "flood", "routing/2", "1")
    room.answer("calm", "routing/2", "1")
    assert sum(room.counts("routing/2").values()) == 2
    clock.now = 2
    room.answer("flood", "routing/2", "1")
    assert room.counts("routing/2") == {"1": 2}


def test_students_who_come_and_go_do_not_pile_up_answers(room: Room) -> None:
    room.enter("stays")
    room.answer("stays", "routing/2", "7")
    for number in range(3 * limits.ROOM_STUDENTS):
        room.enter(str(number))
        room.answer(str(number), "routing/2", "1")
        room.leave(str(number))
    assert room.counts("routing/2") == {"1": limits.ROOM_STUDENTS - 1, "7": 1}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "leave", "answer", "reveal"]),
        st.sampled_from("abc"),
        st.sampled_from(["routing/1", "routing/2", "routing/test/1"]),
        st.sampled_from(["x", "y"]),
    ),
    max_size=60,
)


@given(STEPS)
def test_last_answer_of_each_student_before_the_reveal_counts(steps: list[tuple[str, str, str, str]]) -> None:
    clock = Clock()
    room = Room("BCDFGH", clock)
    room.push(LESSON)
    sessions, answers, shown = {key: 0 for key in "abc"}, {}, set()
    for act, key, question, choice in steps:
        clock.now += 10
        if act == "enter":
            room.enter(key)
            sessions[key] += 1
        elif act == "leave":
            room.leave(key)
            sessions[key] = max(0, sessions[key] - 1)
        elif act == "reveal":
            room.reveal(question)
            shown.add(question)
        elif sessions[key] and question not in shown:
            room.answer(key, question, choice)
            answers[key, question] = choice
        else:
            refused(room.answer, key, question, choice)
    assert room.num_students == sum(number > 0 for number in sessions.values())
    for question in {question for _, _, question, _ in steps}:
        given_now = [answer for (_, to), answer in answers.items() if to == question]
        assert room.counts(question) == {choice: given_now.count(choice) for choice in set(given_now)}


@given(st.text())
def test_cleaned_code_has_no_blanks_and_cleaning_it_again_changes_nothing(typed: str) -> None:
    assert clean(clean(typed)) == clean(typed)
    assert not any(letter.isspace() for letter in clean(typed))


def test_many_threads_leave_a_room_whole(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier, problems = threading.Barrier(8), []

    def student(number: int) -> None:
        try:
            barrier.wait()
            for turn in range(200):
                key = f"{number}-{turn % 10}"
                room.enter(key)
                room.answer(key, "routing/2", str(number))
                room.push(View("routing", {**LESSON.values, "token": f"{number} {turn}"}))
                room.counts("routing/2")
                room.leave(key)
        except Exception as error:
            problems.append(error)

    before = room.version
    threads = [threading.Thread(target=student, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert room.version == before + 8 * 200
    assert room.empty
    assert room.counts("routing/2") == {str(number): 10 for number in range(8)}
