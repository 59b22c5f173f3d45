from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import charts, said
from tests.traces import random_trace

PAGE = page_path("attention")


@pytest.mark.parametrize("sort", ["index", "entropy", "first token", "distance"])
def test_thumbnails_are_sorted_as_asked(show: Callable[..., AppTest], sort: str) -> None:
    app = show(sort=sort)
    texts = [trace for trace in charts(app)[1]["data"] if trace.get("mode") == "text"][0]["text"]
    values = [float(text.split()[-1]) for text in texts]
    assert values == sorted(values, reverse=sort in ("first token", "distance"))


def test_answer_names_the_token_that_is_looked_at_most(show: Callable[..., AppTest]) -> None:
    trace = random_trace(seed=9, num_prompt=5, num_new=9)
    row = trace.data["attention"].values[2, 1, 4]
    words = said(show(layer=2, head=1, token=4))
    assert "In head 1 of L2, token 4 " in words
    assert f"{row.max():.1%}** (measured)." in words
