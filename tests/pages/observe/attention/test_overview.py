import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.trace.trace import Trace
from pages.common.menu import page_path
from pages.observe.attention import overview
from tests.pages.conftest import charts, said
from tests.traces import family_trace, random_trace

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


def with_row(change: Callable[[np.ndarray], np.ndarray]) -> Trace:
    """A trace with other attention of token 4 in head 1 of layer 2."""
    trace = random_trace(seed=9, num_prompt=5, num_new=9)
    weights = trace.data["attention"].values.copy()
    weights[2, 1, 4] = change(weights[2, 1, 4])
    return dataclasses.replace(trace, data=trace.data.assign(attention=trace.data["attention"].copy(data=weights)))


def test_a_row_of_a_head_with_a_sink_says_how_much_goes_to_no_token(show: Callable[..., AppTest]) -> None:
    trace = with_row(lambda weights: 0.75 * weights)
    words = said(show(trace, layer=2, head=1, token=4))
    assert "25.0% goes to no single token: to a sink" in words
    assert "All bars add up to 0.75" in words
    assert "no single token: to a sink" not in said(show(trace, layer=2, head=0, token=4))


def test_a_row_whose_keys_are_not_known_is_no_number(show: Callable[..., AppTest]) -> None:
    app = show(with_row(lambda weights: np.full_like(weights, np.nan)), layer=2, head=1, token=4)
    assert not app.exception
    assert "it is not known which tokens the keys of token 4" in said(app)
    assert "nan" not in said(app)


def test_layers_without_attention_are_named() -> None:
    trace = family_trace(num_layers=3)
    weights = random_trace(num_layers=3).data["attention"].isel(attention_layer=[1])
    hybrid = dataclasses.replace(trace, data=trace.data.assign(attention=weights))
    assert str(overview.without_attention(hybrid)).startswith("L0, L2 have no attention weights")
    assert overview.without_attention(random_trace()) is None
