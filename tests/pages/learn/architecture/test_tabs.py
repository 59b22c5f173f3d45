"""The tabs."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.architecture.tabs import BESIDE
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
