"""The claims with their links, and their counts."""

import urllib.parse
from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.what_changed import claims
from tests.pages.conftest import said
from tests.pages.learn.what_changed.conftest import shown

ShowAt = Callable[..., AppTest]

PAGE = page_path("what_changed")


def test_page_shows_every_claim_with_its_links(show_at: ShowAt) -> None:
    app = show_at()
    assert shown(app) == [claim.claim for claim in claims.claims()]
    links = [link.proto for link in app.get("page_link")]
    views = [view for claim in claims.claims() for view in claim.views]
    assert [link.label for link in links] == [view.label for view in views]
    for link, view in zip(links, views, strict=True):
        assert link.page == view.page
        assert dict(urllib.parse.parse_qsl(link.query_string)) == view.choices


def test_counts_are_those_of_the_claims(show_at: ShowAt) -> None:
    text = said(show_at(verdict="wrong"))
    assert "Claims of the article: 6 " in text
    for count in ("0 right]", "1 right with a reservation]", "3 wrong]", "2 not said by the sources]"):
        assert count in text
