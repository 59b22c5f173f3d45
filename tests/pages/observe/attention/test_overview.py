from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import charts

PAGE = page_path("attention")


@pytest.mark.parametrize("sort", ["index", "entropy", "first token", "distance"])
def test_thumbnails_are_sorted_as_asked(show: Callable[..., AppTest], sort: str) -> None:
    app = show(sort=sort)
    texts = [trace for trace in charts(app)[1]["data"] if trace.get("mode") == "text"][0]["text"]
    values = [float(text.split()[-1]) for text in texts]
    assert values == sorted(values, reverse=sort in ("first token", "distance"))
