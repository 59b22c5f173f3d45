"""The tabs."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.data.reports import DAMAGED, TRAINING
from pages.learn.data.tables import REASON
from pages.learn.data.tabs import BY_STREAM, EXAMPLES, SOURCES, TRY
from tests.pages.conftest import said
from tests.pages.learn.data.conftest import report, tables

OpenApp = Callable[..., AppTest]

PAGE = page_path("data")


def test_link_says_what_a_tried_text_is(show_at: OpenApp) -> None:
    app = show_at(table=TRY, **{"rules-lang": "de", "rules-code": "true"})
    assert not app.exception
    assert (app.selectbox(key="rules-lang").value, app.toggle(key="rules-code").value) == ("de", True)


def test_streams_with_their_weights(show_at: OpenApp) -> None:
    app = show_at(report=TRAINING, table=BY_STREAM)
    table = next(table for table in tables(app) if "sampling weight" in table)
    assert table["sampling weight"].sum() == pytest.approx(1, abs=1e-4)
    assert table["records"].sum() == report(TRAINING)["in"]["records"]


def test_damage_by_kind(show_at: OpenApp) -> None:
    table = next(table for table in tables(show_at(report=DAMAGED)) if "kind of damage" in table)
    found = dict(zip(table["kind of damage"], table["dropped"], strict=True))
    assert found["shuffled words"] == 0
    assert found["html markup"] == 1


def test_examples_of_a_rule(show_at: OpenApp) -> None:
    app = show_at(report=DAMAGED, table=EXAMPLES)
    assert "scanning errors" in app.selectbox(key="rule").options
    app.selectbox(key="rule").set_value("scanning errors").run()
    assert not app.exception
    assert 1 <= len(app.code) <= 3
    assert "Digits replace letters, as after bad scanning." in said(app)


def test_rule_of_another_report_is_forgotten(show_at: OpenApp) -> None:
    app = show_at(report=TRAINING, table=EXAMPLES, rule="lock file")
    assert not app.exception
    assert app.selectbox(key="rule").value == app.selectbox(key="rule").options[0]


def test_sources_with_licences_and_files(show_at: OpenApp) -> None:
    found = tables(show_at(report=TRAINING, table=SOURCES))
    assert any({"source", "licence"} <= set(table) and table["licence"].str.len().min() > 0 for table in found)
    assert any("sha256" in table for table in found)


def verdicts(app: AppTest) -> dict[str, str]:
    table = next(table for table in tables(app) if "says" in table)
    return dict(zip(table["rule"], table["says"], strict=True))


def test_nothing_is_said_of_no_text(show_at: OpenApp) -> None:
    app = show_at(table=TRY)
    assert set(verdicts(app).values()) == {""}
    assert "Safety labels" not in said(app)


def test_a_rule_that_keeps_a_text_gives_no_reason_to_drop_it(show_at: OpenApp) -> None:
    app = show_at(table=TRY)
    table = next(table for table in tables(app) if "says" in table)
    assert (table[REASON] != "").all()  # without a text, the table says what each rule is for
    app.selectbox(key="rules-lang").set_value("en").run()
    app.text_area(key="rules-text").set_value("<p>One <b>bold</b> word</p> for bob, and no more than that.").run()
    table = next(table for table in tables(app) if "says" in table).set_index("says")
    assert set(table.index) >= {"keeps", "drops"}
    assert (table.loc["keeps", REASON] == "").all()
    assert (table.loc[["drops"], REASON] != "").all()


def test_a_text_is_tried(show_at: OpenApp) -> None:
    app = show_at(table=TRY)
    app.text_area(key="rules-text").set_value("<p>One <b>bold</b> word</p> for bob@example.com, and no more.").run()
    assert verdicts(app)["markup"] == "drops"
    assert verdicts(app)["too short"] == "keeps"
    assert "**Dropped**, by markup." in said(app)
    assert "e-mail address (1)" in said(app)
    app.toggle(key="rules-code").set_value(True).run()
    assert verdicts(app)["markup"] == "not for code"
    assert "**Kept** by every rule." in said(app)


def test_a_language_is_tried(show_at: OpenApp) -> None:
    app = show_at(table=TRY)
    app.text_area(key="rules-text").set_value("Паромщик посмотрел на небо и отнёс вёсла под крышу.").run()
    assert "other language" not in verdicts(app)
    app.selectbox(key="rules-lang").set_value("en").run()
    assert verdicts(app)["other language"] == "drops"
    app.selectbox(key="rules-lang").set_value("ru").run()
    assert verdicts(app)["other language"] == "keeps"


def test_a_text_is_cut_at_the_limit(show_at: OpenApp) -> None:
    app = show_at(table=TRY)
    app.text_area(key="rules-text").set_value("x" * 30_000).run()
    table = next(table for table in tables(app) if "says" in table)
    assert table.set_index("rule").loc["too short", "measured"] == "20,000"
