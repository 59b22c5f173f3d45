"""The lesson beside a page: its steps, the covered figures, the answer, and what the student should see."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.facts.facts import facts_of
from model.trace.facts.sources import Sources
from pages.common.menu import page_path
from pages.frame.lesson import style
from pages.learn.lessons import lesson
from tests.pages.conftest import said
from tests.pages.fakes import FakeEngine
from tests.pages.learn.lessons.test_lesson import STUB
from tests.traces import random_trace

PAGE = page_path("lessons")
OpenApp = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make a copy of the stub the only lesson."""
    folder = tmp_path / "content"
    folder.mkdir()
    (folder / STUB.name).write_text(STUB.read_text())
    monkeypatch.setattr(lesson, "CONTENT", folder)
    return folder / STUB.name


@pytest.fixture
def app(open_app: OpenApp) -> AppTest:
    """The stub's first step."""
    return open_app(lesson="two-steps")


def keys(app: AppTest) -> set[str]:
    return {button.key for button in app.button}


def is_covered(app: AppTest) -> bool:
    return any("visibility: hidden" in each.value for each in app.get("html"))


def answer(app: AppTest, value: object) -> AppTest:
    app.number_input(key="lesson-answer-two-steps/1").set_value(value).run()
    return app.button(key="lesson-answer").click().run()


def test_link_to_a_lesson_opens_its_page_and_run(app: AppTest, engine: FakeEngine) -> None:
    assert not app.exception
    assert [request.prompt for request in engine.requests] == ["The sun"]
    assert "Why did this token go to these experts?" in said(app)
    assert "The text has 10 tokens. *Look* at `token 4`." in said(app)
    assert (app.number_input(key="token").value, app.selectbox(key="layer").value) == (4, 2)
    assert {"lesson": "two-steps", "step": "1", "token": "4"}.items() <= dict(app.query_params).items()


def test_the_figures_are_covered_until_the_answer(app: AppTest) -> None:
    assert is_covered(app)
    assert "Press an expert." not in said(app)
    assert "lesson-show" not in keys(app)
    truth = facts_of(Sources(random_trace(seed=0, num_new=4)))["expert"](4, 2)
    answer(app, truth)
    assert not is_covered(app)
    assert "Press an expert." in said(app)
    assert f"**Right: E{truth}.** Its weight is " in app.success[0].value
    assert ":material/check: Each token takes 2 experts." in said(app)


def test_a_wrong_answer_gets_the_right_one_and_why(app: AppTest) -> None:
    truth = facts_of(Sources(random_trace(seed=0, num_new=4)))["expert"](4, 2)
    answer(app, (truth + 1) % 8)
    assert f"You answered {(truth + 1) % 8}. **The answer is E{truth}.** Its weight" in said(app)


def test_the_figures_can_be_shown_anyway(app: AppTest) -> None:
    app.button(key="lesson-uncover").click().run()
    assert not is_covered(app)
    assert "lesson-answer" in keys(app)


def test_a_claim_that_is_false_on_this_text_is_said(app: AppTest) -> None:
    app.button(key="lesson-next").click().run()
    choice = app.radio(key="lesson-answer-two-steps/2")
    assert choice.options == ["A. yes", "B. no"]
    choice.set_value("B").run()
    app.button(key="lesson-answer").click().run()
    assert "**On this text it is not so:** More than a tenth is wrong." in said(app)
    assert "\\< 0 is false)" in said(app)


def test_a_choice_that_depends_on_the_run_is_set_when_it_is_there(app: AppTest, engine: FakeEngine) -> None:
    app.button(key="lesson-next").click().run()
    assert len(engine.requests) == 1  # the step names no text: the run stays
    assert app.session_state["run"].request.prompt == "The sun"
    assert (app.selectbox(key="layer").value, app.session_state["tokens"]) == (2, "generated")


def test_show_it_on_the_page_brings_the_student_back(app: AppTest, engine: FakeEngine) -> None:
    app.number_input(key="token").set_value(7).run()
    assert "lesson-show" in keys(app)
    app.switch_page(page_path("tokens")).run()
    assert "The text has 10 tokens." in said(app)
    assert not is_covered(app)
    app.button(key="lesson-show").click().run()
    assert "lesson-show" not in keys(app)
    assert app.number_input(key="token").value == 4
    assert is_covered(app)
    assert len(engine.requests) == 1


def test_self_test_follows_the_last_step_and_is_counted(app: AppTest) -> None:
    for _ in range(2):
        app.button(key="lesson-next").click().run()
    assert "Self-test, question 1 of 1" in said(app)
    app.number_input(key="lesson-answer-two-steps/test/1").set_value(2.1).run()
    app.button(key="lesson-answer").click().run()
    assert app.success
    app.button(key="lesson-next").click().run()
    assert "You answered **1 of 1** questions of the self-test right." in said(app)
    assert "lesson-next" not in keys(app)
    app.button(key="lesson-back").click().run()
    assert "Self-test, question 1 of 1" in said(app)


def test_closing_leaves_the_page(app: AppTest) -> None:
    app.button(key="lesson-close").click().run()
    assert "lesson-next" not in keys(app)
    assert "lesson" not in app.query_params
    assert app.number_input(key="token").value == 4


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ({"lesson": "nothing"}, "no lesson has this name"),
        ({"lesson": "<b>x</b>"}, "\\<b\\>x\\<\\/b\\>"),
        ({"lesson": "two-steps", "step": "99"}, None),
        ({"lesson": "two-steps", "step": "-1"}, None),
    ],
)
def test_wrong_addresses_get_one_kind_line(open_app: OpenApp, address: dict[str, str], words: str | None) -> None:
    app = open_app(**address)
    assert not app.exception
    assert words is None or words in app.warning[0].value


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "token = 4 }",
            'token = "=expert(99, 2)" }',
            "The page could not be set up for this step\\: the run has no token",
        ),
        ('answer = "expert(4, 2)"', 'answer = "load(2, 99)"', "no expert 99"),
        ('answer = "expert(4, 2)"', 'answer = "token_text(4)"', "which is no number of the kind expert"),
        ("{tokens()}", "{load(2, 99)}", "no expert 99"),
        ("{tokens()}", "<img src=x onerror=alert(1)>", "\\<img src\\=x onerror\\=alert\\(1\\)\\>"),
    ],
)
def test_hostile_lessons_get_one_kind_line(open_app: OpenApp, stub: Path, old: str, new: str, words: str) -> None:
    assert old in STUB.read_text()
    stub.write_text(STUB.read_text().replace(old, new))
    app = open_app(lesson="two-steps")
    if "answer" in old:
        answer(app, 1)
    assert not app.exception
    assert words in said(app) + " ".join(each.value for each in app.warning)
    assert "lesson-next" in keys(app)


def test_an_experiment_that_was_not_run_says_what_to_press(open_app: OpenApp, stub: Path) -> None:
    stub.write_text(
        STUB.read_text().replace("experts_per_token() == 2", "effect() > 0").replace('"expert(4, 2)"', '"draws()"')
    )
    app = answer(open_app(lesson="two-steps"), 1)
    assert "You answered 1. No experiment" in said(app)
    assert said(app).count("press Run on the Counterfactual page") == 1


def test_style_covers_sentences_but_no_widgets() -> None:
    assert "stPlotlyChart" in style.COVER % {"covered": "stPlotlyChart", "line": "#fff"}


# --- in a room -------------------------------------------------------------------------------------------------------


@pytest.fixture
def teacher(app: AppTest) -> AppTest:
    """The stub's first step, in the session of a room's teacher."""
    app.button(key="room-open").click().run()
    return app


def test_class_sees_the_step_and_the_answer_when_the_teacher_reveals_it(teacher: AppTest, open_app: OpenApp) -> None:
    room = teacher.session_state["room"].room
    assert "lesson-answer" not in keys(teacher)
    student = open_app(room=room.code)
    assert not student.exception
    assert "The text has 10 tokens." in said(student)
    assert student.number_input(key="token").value == 4
    assert {"lesson-next", "lesson-show"}.isdisjoint(keys(student))
    answer(student, 3)
    assert room.counts("two-steps/1") == {"3": 1}
    assert "You answered **3**. Your teacher will show the right answer." in said(student)
    assert is_covered(student)
    assert is_covered(teacher)
    teacher.button(key="lesson-reveal").click().run()
    assert not is_covered(teacher)
    assert "**The answer is E" in teacher.info[0].value
    for each in (student, open_app(room=room.code)):  # one has answered; the other came late, or is on a projector
        each.run()
        assert not is_covered(each)
        assert "Each token takes 2 experts." in said(each)
        assert "**The answer is E" in each.info[0].value
        assert "lesson-answer" not in keys(each)


def test_class_follows_to_the_next_step_and_out_of_the_lesson(teacher: AppTest, open_app: OpenApp) -> None:
    student = open_app(room=teacher.session_state["room"].room.code)
    teacher.button(key="lesson-next").click().run()
    teacher.run()
    student.run()
    assert "The last token follows." in said(student)
    assert student.query_params["step"] == "2"
    teacher.button(key="lesson-close").click().run()
    student.run()
    assert "lesson" not in student.query_params


def test_student_who_stops_following_gets_the_answer_at_once(teacher: AppTest, open_app: OpenApp) -> None:
    student = open_app(room=teacher.session_state["room"].room.code)
    student.button(key="room-stop").click().run()
    answer(student, 3)
    assert not is_covered(student)
    assert "lesson-next" in keys(student)
    assert teacher.session_state["room"].room.counts("two-steps/1") == {}
