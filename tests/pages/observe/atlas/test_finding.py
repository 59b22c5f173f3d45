import pandas as pd

from model.atlas.folder import Sweep
from pages.common.menu import page_path
from tests.pages.observe.atlas.conftest import OpenApp

PAGE = page_path("atlas")


def test_search_finds_tokens_and_texts_and_names_experts(show_at: OpenApp, sweep: Sweep) -> None:
    app = show_at(part="Search", find="RETURN")
    tokens, texts = (pd.DataFrame(frame.value) for frame in app.dataframe[-2:])
    assert tokens[["expert", "token", "chose it", "of", "documents"]].to_numpy().tolist() == [
        ["L2E2", "·return", 40, 50, 30],
        ["L1E0", "·return", 9, 50, 8],
    ]
    assert texts[["expert", "before", "token", "source"]].to_numpy().tolist() == [
        ["L2E2", "def f():    ", " return", "code-0"]
    ]
    app.button(key="atlas-found-texts-open").click().run()
    assert (app.text_area(key="prompt").value, app.session_state["layer"], app.session_state["expert"]) == (
        "def f():\n    return 1", 2, 2,
    )  # fmt: skip


def test_search_names_an_expert(show_at: OpenApp, sweep: Sweep) -> None:
    app = show_at(part="Search", find="")
    app.text_input(key="find").set_value("L2E1").run()
    app.button(key="find-L2E1").click().run()
    assert (app.session_state["layer"], app.session_state["expert"]) == (2, 1)


def test_search_without_a_match_says_what_is_searched(show_at: OpenApp, sweep: Sweep) -> None:
    app = show_at(part="Search", find="![x](http://y)")
    assert r"Nothing in this sweep matches “\!\[x\]" in app.info[-1].value
