"""Opening a view in a session that lives shows what a link to it shows in a new one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.common import examples, limits, models, opening
from pages.common.menu import page_path
from tests.pages.conftest import said
from tests.pages.fakes import FakeEngine

OpenApp = Callable[..., AppTest]
RUN = {"prompt": "The sun", "new": "4", "seed": "3"}


def send(app: AppTest, page: str, **values: str) -> AppTest:
    """Open a view as a callback would, and run the app."""
    app.session_state["view-to-open"] = (page, values)
    return app.run()


def view_of(app: AppTest) -> tuple[str, dict[str, str]]:
    """What `current_view` returns in a script run after this one."""
    caught: list[tuple[str, dict[str, str]]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "go", lambda page: caught.append(opening.current_view()))
        app.run()
    return caught[-1]


def address(app: AppTest) -> dict[str, Any]:
    return {name: value for name, value in app.query_params.items() if name != "session"}


def test_a_page_that_the_menu_lacks_is_refused() -> None:
    with pytest.raises(KeyError):
        opening.open_view("nowhere", {})


@pytest.mark.parametrize(
    ("page", "values"),
    [
        ("explore", {**RUN, "layer": "2", "token": "4", "expert": "7", "head": "all", "tab": "All layers"}),
        ("explore", {"special": "false", "colour": "surprisal", "map": "layers", "tokens": "generated"}),
        ("routing", {**RUN, "layer": "2", "token": "5", "part": "One expert"}),
        ("architecture", {"of": "DeepSeek-V3", "part": "moe attention"}),
    ],
)
def test_a_view_is_what_a_link_to_it_shows(open_app: OpenApp, page: str, values: dict[str, str]) -> None:
    app = send(open_app(prompt="Another text", new="3", layer="1", token="2"), "attention", cell="mean")
    linked = open_app(**values)
    if page != "explore":
        linked.switch_page(page_path(page)).session_state["linked"] = False
        linked.query_params.update(values)
        linked.run()
    send(app, page, **values)
    assert not app.exception
    assert values.items() <= address(app).items()
    assert [each.label for each in app.tabs] == [each.label for each in linked.tabs]
    assert said(app) == said(linked)


def test_a_tab_is_opened_though_the_page_before_has_tabs_under_the_same_name(open_app: OpenApp) -> None:
    app = send(open_app(), "attention", **RUN, tab="Content and position")
    assert "The layers' inputs were not recorded" in said(app)


def test_the_view_on_show_is_the_one_that_was_opened(open_app: OpenApp) -> None:
    values = {**RUN, "temp": "0.5", "layer": "2", "token": "5", "head": "1", "colour": "group", "tab": "All layers"}
    page, shown = view_of(send(open_app(), "explore", **values))
    assert page == "explore"
    assert values.items() <= shown.items()
    assert shown["model"] == "fake"
    assert not set(opening.FRAME) & set(shown)
    follower = send(open_app(), "routing")
    send(follower, page, **shown)
    assert view_of(follower) == (page, shown)


def test_the_view_names_the_run_on_show_not_the_text_typed_since(open_app: OpenApp) -> None:
    app = send(open_app(), "explore", **RUN)
    app.text_area(key="prompt").set_value("Not run").run()
    assert view_of(app)[1]["prompt"] == "The sun"


def test_a_view_without_a_request_is_the_recorded_example(open_app: OpenApp) -> None:
    app = send(open_app(), "routing", **RUN)
    assert app.session_state["run"].request.prompt == "The sun"
    send(app, "explore", layer="2")
    assert "recorded" in said(app)
    assert app.text_area(key="prompt").value == examples.FIRST
    assert view_of(app) == ("explore", {"layer": "2", "head": view_of(app)[1]["head"]})


def test_the_same_request_is_run_once_while_only_choices_change(open_app: OpenApp, engine: FakeEngine) -> None:
    app = send(open_app(), "routing", **RUN, token="3")
    send(app, "routing", **RUN, token="4")
    send(app, "explore", **RUN, token="5")
    assert len(engine.requests) == 1
    assert app.number_input(key="token").value == 5
    send(app, "explore", **(RUN | {"prompt": "The moon"}))
    assert len(engine.requests) == 2


def test_a_finished_equal_run_of_another_visitor_is_taken(open_app: OpenApp, engine: FakeEngine) -> None:
    send(open_app(), "routing", **RUN)
    app = send(open_app(), "attention", **RUN)
    assert (len(engine.requests), app.session_state["run"].trace.num_tokens) == (1, 10)


def test_choices_that_are_missing_get_their_defaults(open_app: OpenApp) -> None:
    app = send(open_app(), "explore", token="3", expert="2", tokens="prompt", special="false", colour="group")
    send(app, "explore")
    state = app.session_state
    assert [state[name] for name in ("token", "expert", "tokens", "special", "colour")] == [
        None, None, "all", True, "expert",
    ]  # fmt: skip


def test_parameters_of_the_frame_stay(open_app: OpenApp) -> None:
    app = send(open_app(present="1", hide="sidebar"), "routing", token="3")
    assert {"present": "1", "hide": "sidebar", "token": "3"}.items() <= address(app).items()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prompt": "A", "model": "![x](y)"}, "is not installed"),
        ({"prompt": "A", "new": "many"}, "many"),
        ({"prompt": ""}, "he prompt is empty"),
    ],
)
def test_a_view_that_cannot_be_opened_says_why_and_keeps_the_run(
    open_app: OpenApp, engine: FakeEngine, wrong: dict[str, str], words: str
) -> None:
    app = send(open_app(), "routing", **RUN)
    send(app, "routing", **wrong)
    assert not app.exception
    assert words in app.error[0].value
    assert "![x](y)" not in app.error[0].value
    assert (len(engine.requests), app.session_state["run"].request.prompt) == (1, "The sun")


def test_choices_out_of_range_are_left_out_as_in_a_link(open_app: OpenApp) -> None:
    app = send(open_app(), "attention", layer="99", token="999", expert="-1", head="x", tab="No such tab", cell="none")
    assert not app.exception
    assert app.number_input(key="token").value is None


def test_a_prompt_too_long_for_a_link_is_opened_all_the_same(
    open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINK_CHARACTERS", 20)
    app = send(open_app(), "explore", **(RUN | {"prompt": "The sun rises over the hill."}))
    assert not app.exception
    assert app.session_state["run"].request.prompt == "The sun rises over the hill."
    assert "prompt" not in app.query_params
    assert view_of(app)[1]["prompt"] == "The sun rises over the hill."


def test_the_model_is_chosen(
    open_app: OpenApp, recorded: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(models, "available", lambda: {"fake": tmp_path, "other": tmp_path / "other"})
    app = send(open_app(), "routing", **RUN, model="other")
    assert app.selectbox(key="model").value == "other"
    send(app, "explore", **RUN)
    assert app.selectbox(key="model").value == "fake"


def test_widgets_that_are_drawn_only_when_the_run_is_there_take_the_view_too(
    open_app: OpenApp, leaving: Callable[[int], Any]
) -> None:
    app = send(open_app(), "tokens", **RUN, under="bytes")
    assert app.segmented_control(key="under").value == "bytes"
    with leaving(8) as go_on:  # the script ends while the run waits, so the page's widgets are not drawn
        send(app, "tokens", **(RUN | {"prompt": "The moon"}), under="id")
        assert not [each for each in app.segmented_control if each.key == "under"]
        go_on.set()
        assert app.session_state["run"].done.wait(30)
    app.run()
    assert app.segmented_control(key="under").value == "id"
    app.segmented_control(key="under").set_value("nothing").run()
    assert app.segmented_control(key="under").value == "nothing"
