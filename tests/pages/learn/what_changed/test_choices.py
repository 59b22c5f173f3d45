"""The filters."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.what_changed import claims
from tests.pages.conftest import said
from tests.pages.learn.what_changed.conftest import shown

ShowAt = Callable[..., AppTest]

PAGE = page_path("what_changed")


@pytest.mark.parametrize("verdict", claims.texts()["verdicts"])
def test_verdict_filters(show_at: ShowAt, verdict: str) -> None:
    app = show_at(verdict=verdict)
    expected = [claim for claim in claims.claims() if claim.verdict == verdict]
    assert shown(app) == [claim.claim for claim in expected]
    assert app.dataframe[0].value["claim"].tolist() == [claim.claim for claim in expected]


@pytest.mark.parametrize("subject", sorted({claim.subject for claim in claims.claims()}))
def test_subject_filters(show_at: ShowAt, subject: str) -> None:
    app = show_at(subject=subject)
    assert shown(app) == [claim.claim for claim in claims.claims() if claim.subject == subject]


@pytest.mark.parametrize("origin", claims.texts()["origins"])
def test_origin_filters(show_at: ShowAt, origin: str) -> None:
    app = show_at(claims=claims.texts()["origins"][origin]["short"])
    assert shown(app) == [claim.claim for claim in claims.claims() if claim.origin == origin]


def test_filters_together_and_without_a_match(show_at: ShowAt) -> None:
    app = show_at(subject="attention", verdict="right with a reservation")
    assert shown(app) == [claim.claim for claim in claims.matching("right with a reservation", "attention")]
    verdict = next(group for group in app.get("button_group") if group.key == "verdict")
    subject = next(group for group in app.get("button_group") if group.key == "subject")
    subject.set_value("precision")
    verdict.set_value("wrong").run()
    assert shown(app) == []
    assert "Choose another" in said(app)
    assert list(app.dataframe[0].value.columns)[:2] == ["said by", "subject"]


def test_unknown_choice_in_the_address_shows_all(show_at: ShowAt) -> None:
    assert len(shown(show_at(verdict="splendid", subject="weather"))) == len(claims.claims())
