"""Tests of finished figures."""

import numpy as np
import plotly.graph_objects as go
import plotly.io

from viz.finished import Finished


def test_a_finished_figure_has_the_text_of_the_figure() -> None:
    figure = go.Figure(go.Heatmap(z=np.eye(3)), {"height": 200, "title": {"text": "</a>"}})
    text = figure.to_json()
    finished = Finished(figure)
    assert plotly.io.to_json(finished.to_dict(), validate=False) == text
    figure.update_layout(height=300)
    assert finished.to_json() == text
    assert finished.height == 200
    assert finished.to_dict() is finished.to_dict()
