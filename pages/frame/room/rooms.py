"""Rooms of a class: the view that the class follows, its questions, and the students' answers.

A room lives in the memory of the server only. It knows its students by random keys, and holds no names. All methods can
be called from several threads.
"""

import collections
import dataclasses
import hmac
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping

from pages.common import limits

LETTERS = "BCDFGHJKMNPQRSTVWXZ"  # no vowels, which make words, and no letter that looks like a digit
CODE_LENGTH = 6
CHOICE_CHARACTERS = 64  # longest answer
MOST_QUESTIONS = 200  # of a room
BURST, ANSWERS_PER_SECOND = 10, 2  # answers that a student may send at once, and in the long run


class RoomError(ValueError):
    """What a visitor asked of a room is refused; the message is one line for the visitor."""


@dataclasses.dataclass(frozen=True)
class View:
    """A view: the name of its page, and the values of its URL."""

    page: str
    values: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Question:
    """A question that the teacher asks on the run on show. `truth` is the set of right options."""

    id: str
    kind: str  # "token" or "expert"
    text: str
    options: tuple[str, ...]
    truth: frozenset[str]
    context: str = ""  # the text before the token that is asked for


@dataclasses.dataclass
class _Student:
    sessions: int = 0
    allowance: float = BURST
    at: float = 0.0  # time of the last answer


class Room:
    """A class: one teacher, who holds the secret, and students, who hold the code."""

    def __init__(self, code: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the room. `clock` returns seconds."""
        self.code, self.secret = code, uuid.uuid4().hex
        self.version = 0  # rises with every change that students should see
        self.view: View | None = None
        self.question: Question | None = None  # the teacher's own question that the class sees
        self._clock, self._ends = clock, clock() + limits.ROOM_SECONDS
        self._lock = threading.RLock()
        self._closed = False
        self._students: dict[str, _Student] = {}
        self._teachers = 0  # sessions with the secret
        self._answers: dict[str, dict[str, str]] = {}
        self._revealed: set[str] = set()
        self._asked = 0
        self._listeners: set[Callable[[], None]] = set()

    @property
    def open(self) -> bool:
        """Whether the room is open: nobody has closed it, and its time is not over."""
        return not self._closed and self.seconds_left > 0

    @property
    def seconds_left(self) -> float:
        """Seconds until the room closes by itself; negative afterwards."""
        return self._ends - self._clock()

    @property
    def num_students(self) -> int:
        """Number of students in the room."""
        return len(self._students)

    @property
    def empty(self) -> bool:
        """Whether neither a student nor the teacher is in the room."""
        return not self._students and not self._teachers

    def allows(self, secret: str) -> bool:
        """Return whether a secret is the teacher's."""
        return hmac.compare_digest(secret.encode(errors="replace"), self.secret.encode())

    # --- students ----------------------------------------------------------------------------------------------------

    def enter(self, key: str, teaches: bool = False) -> None:
        """Note that a session of this visitor has entered; several sessions with one key are one student.

        Raises:
            RoomError: the room is closed or full.
        """
        with self._lock:
            self._check_open()
            if teaches:
                self._teachers += 1
                return
            if key not in self._students and len(self._students) >= limits.ROOM_STUDENTS:
                raise RoomError(
                    f"The room {self.code} is full: it has {limits.ROOM_STUDENTS} students. Look on with a neighbour, "
                    "or try again when someone has left."
                )
            self._students.setdefault(key, _Student()).sessions += 1

    def leave(self, key: str, teaches: bool = False) -> None:
        """Note that a session has left. The student's place is free after the last one; the answers stay."""
        with self._lock:
            if teaches:
                self._teachers -= 1
            elif key in self._students:
                self._students[key].sessions -= 1
                if self._students[key].sessions <= 0:
                    del self._students[key]

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` at once and with every new version, from any thread; refuse more than a class needs.

        Raises:
            RoomError: there are twice as many listeners as the room may have students.
        """
        with self._lock:
            if len(self._listeners) >= 2 * limits.ROOM_STUDENTS:
                raise RoomError(f"The room {self.code} has too many listeners.")
            self._listeners.add(listener)
        listener()

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call `listener` no more."""
        with self._lock:
            self._listeners.discard(listener)

    # --- the teacher's view ------------------------------------------------------------------------------------------

    def push(self, view: View) -> None:
        """Show a view to the class. Nothing happens if the class has it already."""
        with self._lock:
            if view != self.view:
                self.view = view
                self._changed()

    def close(self) -> None:
        """Close the room, and drop everything that it holds."""
        with self._lock:
            self._closed, self.view, self.question = True, None, None
            self._students, self._answers, self._revealed = {}, {}, set()
            self._changed()

    # --- questions and answers ---------------------------------------------------------------------------------------

    def ask(self, question: Question) -> Question:
        """Show a question to the class in place of the question before it, and return it with its new id."""
        with self._lock:
            self._check_open()
            self._asked += 1
            self.question = dataclasses.replace(question, id=f"free/{self._asked}")
            self._changed()
            return self.question

    def end_question(self) -> None:
        """Take the teacher's own question away; the class sees the page again."""
        with self._lock:
            if self.question is not None:
                self._answers.pop(self.question.id, None)
                self._revealed.discard(self.question.id)
                self.question = None
                self._changed()

    def answer(self, key: str, question: str, choice: str) -> None:
        """Store a student's answer; a later answer to the same question replaces it.

        Raises:
            RoomError: the room is closed, the student is not in it, the question is not asked now or its answer is
                shown, the answer is none of the options or too long, or the answers come too fast.
        """
        with self._lock:
            self._check_open()
            student = self._students.get(key)
            if student is None:
                raise RoomError(f"You are not in the room {self.code}. Open the link of the room again.")
            self._check_rate(student)
            self._check_answer(question, choice)
            answers = self._answers.setdefault(question, {})
            if key not in answers and len(answers) >= limits.ROOM_STUDENTS:  # then one of them is of a student who left
                del answers[next(other for other in answers if other not in self._students)]
            answers[key] = choice

    def answer_of(self, key: str, question: str) -> str | None:
        """Return a student's own answer; None without one."""
        with self._lock:
            return self._answers.get(question, {}).get(key)

    def counts(self, question: str) -> dict[str, int]:
        """Return how many students gave each answer, the most frequent first."""
        with self._lock:
            return dict(collections.Counter(self._answers.get(question, {}).values()).most_common())

    def reveal(self, question: str) -> None:
        """Show the right answer to the class; from now on no answer is taken."""
        with self._lock:
            if question not in self._revealed and len(self._revealed) < MOST_QUESTIONS:
                self._revealed.add(question)
                self._changed()

    def revealed(self, question: str) -> bool:
        """Return whether the class sees the right answer."""
        return question in self._revealed

    def _changed(self) -> None:
        self.version += 1
        for listener in self._listeners:
            listener()

    def _check_open(self) -> None:
        if not self.open:
            raise RoomError(closed(self.code))

    def _check_rate(self, student: _Student) -> None:
        """Count an answer against the student's allowance, which grows with time up to `BURST`."""
        now = self._clock()
        student.allowance = min(BURST, student.allowance + (now - student.at) * ANSWERS_PER_SECOND)
        student.at = now
        if student.allowance < 1:
            raise RoomError("Your answers come too fast. The last one that was taken counts; try again in a second.")
        student.allowance -= 1

    def _check_answer(self, question: str, choice: str) -> None:
        if not self._is_asked(question):
            raise RoomError("This question is not open any more. Your answer was not taken; look at the page again.")
        if question in self._revealed:
            raise RoomError("The answer is already shown, so yours was not taken.")
        own = self.question if self.question is not None and question == self.question.id else None
        if not (choice in own.options if own is not None else 0 < len(choice) <= CHOICE_CHARACTERS):
            raise RoomError("This is none of the possible answers, so it was not taken. Choose one of those shown.")

    def _is_asked(self, question: str) -> bool:
        """Return whether a question is the teacher's own one, or belongs to the lesson that the class follows."""
        if self.question is not None and question == self.question.id:
            return True
        lesson = self.view.values.get("lesson") if self.view is not None else None
        known = question in self._answers or len(self._answers) < MOST_QUESTIONS
        return (
            bool(lesson) and known and re.fullmatch(rf"{re.escape(lesson)}/(test/)?[0-9]{{1,2}}", question) is not None
        )


class Rooms:
    """Several rooms, each with a code of its own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without rooms. `clock` returns seconds."""
        self._clock, self._lock = clock, threading.Lock()
        self._rooms: dict[str, Room] = {}

    def open(self) -> Room:
        """Open a room and return it.

        Raises:
            RoomError: as many rooms are open as the server holds, and somebody is in each of them.
        """
        with self._lock:
            self._drop_closed()
            if len(self._rooms) >= limits.ROOMS:
                self._drop_empty()
            code = _new_code()
            while code in self._rooms:
                code = _new_code()
            return self._rooms.setdefault(code, Room(code, self._clock))

    def find(self, typed: str) -> Room:
        """Return the room with this code; small letters, spaces and hyphens do not matter.

        Raises:
            RoomError: no open room has this code.
        """
        code = clean(typed)
        with self._lock:
            self._drop_closed()
            if code not in self._rooms:
                raise RoomError(f"No open room has the code {typed.strip()[:20]!r}. {_LOST}")
            return self._rooms[code]

    def __len__(self) -> int:
        """Return the number of open rooms."""
        with self._lock:
            self._drop_closed()
            return len(self._rooms)

    def _drop_closed(self) -> None:
        for code in [code for code, room in self._rooms.items() if not room.open]:
            self._rooms.pop(code).close()

    def _drop_empty(self) -> None:
        """Close the oldest room that nobody is in."""
        code = next((code for code, room in self._rooms.items() if room.empty), None)
        if code is None:
            raise RoomError(f"{limits.ROOMS} rooms are open, as many as this server holds. Try again in a few minutes.")
        self._rooms.pop(code).close()


_LOST = "It may be closed, or the code mistyped. Ask your teacher for the link; all pages work without a room."


def closed(code: str) -> str:
    """Return one line about a room that is closed."""
    return f"The room {code} is closed. What is on show stays, and all pages work without a room."


def clean(typed: str) -> str:
    """Return a typed code in capital letters, without spaces and hyphens.

    >>> clean(" bcd-fgh ")
    'BCDFGH'
    """
    return re.sub(r"[\s\-]", "", typed[:50]).upper()


def _new_code() -> str:
    number, letters = uuid.uuid4().int >> 80, []  # its highest 48 bits are random
    for _ in range(CODE_LENGTH):
        number, digit = divmod(number, len(LETTERS))
        letters.append(LETTERS[digit])
    return "".join(letters)


ROOMS = Rooms()  # of this server
