from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.file import dumps
from pages.common import limits
from tests.pages.conftest import said
from tests.pages.fakes import FakeEngine
from tests.traces import random_trace


def labels(app: AppTest) -> list[str]:
    """The labels of the button that copies the address."""
    return [str(element.proto.json) for element in app.get("bidi_component") if "Copy link" in str(element.proto.json)]


def test_link_to_the_example_is_whole(open_app: Callable[..., AppTest]) -> None:
    app = open_app()
    assert "to this view" in labels(app)[0]
    assert [button.proto.label for button in app.get("download_button")].count("Save this trace") == 1


def test_link_leaves_out_the_keys_of_the_tab_and_of_a_teacher(open_app: Callable[..., AppTest]) -> None:
    assert '"secrets": ["session", "room", "teach"]' in labels(open_app())[0]


def shown(url: str) -> AppTest:
    def pressed(url: str) -> None:
        from pages.frame.sidebar import copy_link

        copy_link.dialog(url)  # what a press of the button does

    return AppTest.from_function(pressed, args=(url,)).run(timeout=60)


def test_dialog_shows_the_address_below_its_code() -> None:
    app = shown("http://a.example/routing?layer=3")
    assert not app.exception
    assert not app.warning
    assert app.code[0].value == "http://a.example/routing?layer=3"
    (code,) = app.get("html")
    assert code.proto.body.startswith('<img alt="QR code of the link"')


def test_dialog_says_that_an_address_is_too_long() -> None:
    app = shown("http://a.example/" + "x" * 2000)
    assert not app.exception
    assert "has 2,017 bytes; a QR code here holds 1 to 1,200. Copy the link instead" in app.warning[0].value


def test_button_says_beforehand_that_a_long_prompt_is_left_out(
    open_app: Callable[..., AppTest], engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINK_CHARACTERS", 20)
    app = open_app()
    app.text_area(key="prompt").set_value("The sun is a star of the middle kind")
    app.button(key="generate").click().run()
    app.run()
    assert not app.exception
    assert "without this run" in labels(app)[0]
    assert "The prompt has 36 characters and a link holds 20." in said(app)
    assert [button.proto.label for button in app.get("download_button")].count("Save this trace") == 2


def test_sidebar_says_what_is_on_show_beside_an_error(open_app: Callable[..., AppTest]) -> None:
    app = open_app()
    (before,) = [caption.value for caption in app.sidebar.caption if caption.value.startswith("On show: ")]
    assert "“" in before
    app.text_area(key="prompt").set_value("")
    app.button(key="generate").click().run()
    assert "On show: " in app.error[0].value
    assert before in [caption.value for caption in app.sidebar.caption]


def test_text_that_was_not_run_is_marked(open_app: Callable[..., AppTest]) -> None:
    app = open_app()
    assert "not run yet" not in said(app)
    app.text_area(key="prompt").set_value("The sun").run()
    assert "Generate runs the text in the box" in said(app)
    app.button(key="generate").click().run()
    assert "not run yet" not in said(app.run())
    app.text_area(key="prompt").set_value("Another sun").run()
    assert "The text has 6 tokens; the context holds 64." in said(app)  # as many as the engine says
    app.text_area(key="prompt").set_value("\ufffd").run()
    assert "The prompt cannot be encoded." in said(app)
    app.text_area(key="prompt").set_value("The sun")
    app.number_input(key="seed").set_value(5).run()
    assert "Changed since the run on show: Seed" in said(app)


def test_box_does_not_pass_for_the_text_of_an_opened_trace(open_app: Callable[..., AppTest]) -> None:
    app = open_app()
    app.text_area(key="prompt").set_value("The sun").run()
    app.file_uploader(key="upload").set_value(
        ("t.safetensors", dumps(random_trace()), "application/octet-stream")
    ).run()
    assert "The trace on show comes from a file; Generate runs the text in the box." in said(app)
    (shown,) = [caption.value for caption in app.sidebar.caption if caption.value.startswith("On show: ")]
    assert "A link does not hold a trace from a file." in said(app)
    app.text_area(key="prompt").set_value("")
    app.button(key="generate").click().run()
    assert shown.split("  \n")[0].removeprefix("On show: ") in app.error[0].value
    assert shown in [caption.value for caption in app.sidebar.caption]
