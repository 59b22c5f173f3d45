import json
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from viz.enlarge import enlarge
from viz.theme import LIGHT, style


def drawn() -> Any:  # values of any Plotly type
    figure = go.Figure(
        [
            go.Bar(x=[0, 1], y=[3, 4], width=[0.5, 0.7], textfont={"size": 12}, error_y={"array": [1, 2], "width": 4}),
            go.Scatter(
                x=[1, 2],
                y=[3, 4],
                text=["c", "<span style='font-size:12px'>d</span>"],
                marker={"size": [6, 8], "line": {"width": 2}},
                line={"width": 3},
            ),
            go.Heatmap(z=np.eye(2), xgap=2, colorbar={"thickness": 10, "len": 0.5, "title": {"font": {"size": 12}}}),
        ]
    )
    figure.add_annotation(text="a <span style='font-size:12px'>b</span>", x=1, y=2, xshift=4, font={"size": 11})
    figure.add_annotation(text="plain", x=20, y=30)
    figure.add_shape(type="rect", x0=1, x1=2, y0=3, y1=4, line={"width": 1})
    return style(figure, LIGHT, 300, margin={"l": 10, "t": 20}, legend={"y": 0.2, "title": {"font": {"size": 12}}})


def test_lengths_in_pixels_grow_and_data_stay() -> None:
    figure: Any = enlarge(drawn(), 1.5)
    bar, scatter, heatmap = figure.data
    assert bar.width == (0.5, 0.7)
    assert (bar.textfont.size, bar.error_y.width, bar.error_y.array) == (18, 6, (1, 2))
    assert list(scatter.marker.size) == [9, 12]
    assert (scatter.marker.line.width, scatter.line.width, scatter.x) == (3, 4.5, (1, 2))
    assert list(scatter.text) == ["c", "<span style='font-size:18px'>d</span>"]
    assert (heatmap.xgap, heatmap.colorbar.thickness, heatmap.colorbar.len) == (3, 15, 0.5)
    assert heatmap.colorbar.title.font.size == 18
    assert np.array_equal(heatmap.z, np.eye(2))
    layout = figure.layout
    assert (layout.height, layout.font.size, layout.margin.l, layout.margin.t) == (450, 19.5, 15, 30)
    assert (layout.legend.y, layout.legend.title.font.size) == (0.2, 18)


def test_notes_and_shapes_grow_where_they_are() -> None:
    figure: Any = enlarge(drawn(), 1.5)
    first, second = figure.layout.annotations
    assert (first.x, first.y, first.xshift, first.font.size) == (1, 2, 6, 16.5)
    assert first.text == "a <span style='font-size:18px'>b</span>"
    assert (second.x, second.y, second.text) == (20, 30, "plain")
    (shape,) = figure.layout.shapes
    assert (shape.x0, shape.x1, shape.line.width) == (1, 2, 1.5)


@pytest.mark.parametrize("factor", [1.25, 1.5])
def test_two_factors_multiply(factor: float) -> None:
    twice, once = enlarge(enlarge(drawn(), 2), factor), enlarge(drawn(), 2 * factor)
    assert twice.to_json() == once.to_json()


def test_figure_itself_stays_as_it_is() -> None:
    figure = drawn()
    enlarge(figure, 2)
    assert json.loads(figure.to_json()) == json.loads(drawn().to_json())


def test_factor_one_changes_nothing() -> None:
    assert enlarge(drawn(), 1).to_json() == drawn().to_json()
