"""The tabs."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.architecture.tabs import BESIDE, BESIDE_V4
from tests.pages.conftest import charts, said
from viz.theme import LIGHT

OpenApp = Callable[..., AppTest]

PAGE = page_path("architecture")


def test_v3_beside_v32_marks_what_was_added(show: OpenApp) -> None:
    app = show(table=BESIDE, of="DeepSeek-V3")
    _, cost, before, after = charts(app)
    marked = [
        [shape for shape in figure["layout"]["shapes"] if shape["line"]["color"] == LIGHT.change[-1]]
        for figure in (before, after)
    ]
    assert [len(shapes) for shapes in marked] == [0, 2]
    assert {note["text"] for note in cost["layout"]["annotations"]} >= {"V3", "V3.2"}
    assert "to each of 61 layers" in said(app)
    assert "13,959,424 parameters in a layer" in said(app)
    table = app.dataframe[-1].value
    assert table["added"].sum() == 62 * 13_959_424


def test_v32_beside_v4_compares_attention_and_cache(show: OpenApp) -> None:
    app = show(table=BESIDE_V4, of="DeepSeek-V4-Pro", context="131072")
    _, work, cache = charts(app)
    for figure in (work, cache):
        assert [note["text"] for note in figure["layout"]["annotations"]][:3] == ["V4-Flash", "V3.2", "V4-Pro"]
    # At 131,072 tokens V3.2 keeps 61 x (576 + 128) values a token, V4-Flash 3,440 and 43 windows of 128 x 512.
    assert "The cache holds 907 MB in V4-Flash and 1.30 GB in V4-Pro" in said(app)
    assert "8.1% and 11.5% of V3.2's" in said(app)
    assert app.dataframe[-1].value.columns.tolist() == ["part", "V4-Flash", "V3.2", "V4-Pro"]
