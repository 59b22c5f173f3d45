"""The page on the way from V3 to V3.2 and V4: every claim with its parts, the links, the filters."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.architecture.choices import spelled
from pages.learn.what_changed import claims

ShowAt = Callable[..., AppTest]
PAGE = page_path("what_changed")


@pytest.mark.parametrize("page", sorted({view.page for claim in claims.claims() for view in claim.views}))
def test_linked_pages_take_the_choices(show_at: ShowAt, page: str) -> None:
    app = show_at()
    views = [view for claim in claims.claims() for view in claim.views if view.page == page]
    if page == "architecture":  # one link for each model; test_claims.py compares all parts with those of the models
        views = list({view.choices["of"]: view for view in views if "part" in view.choices}.values())
    for view in views:
        app.switch_page(PAGE).run()  # as a visitor comes from there
        app.switch_page(str(view.path))
        app.query_params.clear()
        for name, value in view.choices.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception
        if page == "architecture":
            assert spelled(str(app.selectbox(key="part").value)) == view.choices["part"]
