"""A lesson in a class: a teacher and two students, from the room to the report, each in a browser of their own."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Visit
from tests.browser.test_accessibility import judged

pytestmark = pytest.mark.browser
LESSON = "lesson=1-tokens&step=1"


def answer(student: Page, letter: str) -> None:
    lesson = student.locator(".st-key-lesson")
    lesson.locator("label").filter(has_text=f"{letter}. ").click()
    lesson.get_by_role("button", name="Answer", exact=True).click()
    expect(lesson.get_by_text("Your teacher will show the right answer")).to_be_visible()


def test_a_class_predicts_sees_the_answers_of_all_and_steps_on(
    visit: Visit, app: str, chromium: Browser, tmp_path: Path
) -> None:
    teacher = visit(f"{app}/tokens?{LESSON}")
    expect(teacher.locator(".st-key-lesson-next")).to_be_visible()
    teacher.get_by_text("Classroom", exact=True).click()
    teacher.get_by_role("button", name="Open a room").click()
    code = teacher.locator(".room-code").inner_text()
    expect(teacher.locator(".st-key-room-teacher img")).to_be_visible()  # the QR code
    students = [visit(f"{app}/tokens?room={code.lower()}"), visit(f"{app}/tokens?room={code}", width=390, height=800)]

    for student, letter in zip(students, "AC", strict=True):
        expect(student.get_by_text("How many tokens does the sentence have?")).to_be_visible()
        answer(student, letter)
    expect(teacher.get_by_text("2 students in the room")).to_be_visible()
    expect(teacher.get_by_text("2 answers of 2 students")).to_be_visible()
    expect(students[0].locator(".room-answers")).to_have_count(0)
    teacher.get_by_role("button", name="Reveal").click()
    for page in (teacher, *students):
        expect(page.locator(".room-answers tr.right th")).to_have_text("C")
    expect(students[0].get_by_text("You answered A.")).to_be_visible()
    expect(students[1].get_by_text("Right:")).to_be_visible()
    assert judged(teacher) == judged(students[1]) == []  # with lesson and room, on a screen and on a phone

    teacher.locator(".st-key-lesson-next button").click()
    for student in students:
        expect(student.get_by_text("Step 2 of")).to_be_visible()
        assert "teach=" not in student.url

    teacher.get_by_text("Report", exact=True).click()
    with teacher.expect_download() as saved:
        teacher.get_by_role("button", name="Save a report").click()
    saved.value.save_as(tmp_path / "report.html")
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "teach=" not in content
    reader = chromium.new_context(offline=True)
    page = reader.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    expect(page.get_by_text("house House HOUSE house").first).to_be_visible()
    reader.close()
