import numpy as np
import pytest
import xarray as xr

from model.trace import routing as derived
from model.trace.observed_rule import rule_of
from tests.layouts import layout
from tests.traces import random_trace
from viz import routing
from viz.axis import expert_positions
from viz.theme import DARK, LIGHT


def one_token(trace, token=1):
    return trace.data.isel(token=token)


def draw_path(trace, token=1, theme=LIGHT, **options):
    return routing.token_path(one_token(trace, token), layout(8, 4), theme, **options)


def trace_of(figure, name):
    return next(part for part in figure.data if part.name and part.name.startswith(name))


def test_path_fills_the_chosen_experts_and_outlines_rank_zero():
    trace = random_trace()
    marks, positions = trace_of(draw_path(trace), "chosen"), expert_positions(layout(8, 4))
    ids = one_token(trace)["expert_id"].values
    assert marks.x.tolist() == positions[ids.ravel()].tolist()
    assert marks.y.tolist() == [0, 0, 1, 1]
    assert marks.marker.line.width.tolist() == [2, 0, 2, 0]
    assert all(color.startswith("rgba") for color in marks.marker.color)


def test_path_shades_exactly_the_kept_groups():
    trace = random_trace()
    band = trace_of(draw_path(trace), "kept")
    assert len(band.x) == 6 * int(one_token(trace)["group_kept"].sum())


def test_path_marks_losers_where_the_masks_say():
    trace = random_trace(seed=3)
    data = trace.data
    lost = derived.lost_to_group_limit(data["router_score"] + data["expert_bias"], data["expert_id"], rule_of(trace))
    token = int(np.argmax(lost.any(["moe_layer", "expert"]).values))
    figure = draw_path(trace, token, losers={routing.LOST_TO_GROUP: lost.isel(token=token)})
    rows, experts = np.nonzero(lost.isel(token=token).values)
    marks = trace_of(figure, routing.LOST_TO_GROUP)
    assert len(rows) > 0
    assert marks.x.tolist() == expert_positions(layout(8, 4))[experts].tolist()
    assert marks.y.tolist() == rows.tolist()
    assert marks.marker.symbol == "hash-open"
    assert routing.LOST_TO_BIAS not in [part.name for part in figure.data]


def test_path_says_the_exact_weight_and_lets_every_cell_be_clicked():
    trace = random_trace()
    points = draw_path(trace).data[-1]
    data = one_token(trace)
    expert = int(data["expert_id"].values[1, 0])
    assert len(points.x) == data["router_score"].size
    cell = 8 + expert
    assert points.customdata[cell].tolist()[:2] == [2, expert]
    assert f"weight {float(data['gate_weight'][1, 0]):.3g}" in points.text[cell]


def test_path_of_one_group_and_unknown_ids():
    scores = xr.DataArray(np.array([[0.2, 0.9]], np.float32), dims=("moe_layer", "expert"))
    ids = xr.DataArray(np.array([[1, -1]], np.int16), dims=("moe_layer", "rank"))
    weights = xr.DataArray(np.array([[1.0, np.nan]], np.float32), dims=("moe_layer", "rank"))
    at = xr.Dataset({"expert_id": ids, "gate_weight": weights, "router_score": scores})
    figure = routing.token_path(at, layout(2), DARK, origin="imported")
    assert trace_of(figure, "chosen").x.tolist() == [1]
    assert "imported" in figure.data[-1].hovertemplate
    assert figure.data[-1].customdata[1].tolist() == pytest.approx([0, 1, 0.9])
    assert figure.data[-1].text.tolist() == ["", "<br>chosen, rank 0, weight 1"]


def test_path_of_ids_alone_fills_without_an_outline():
    at = one_token(random_trace())[["expert_id"]]
    figure = routing.token_path(at, layout(8, 4), LIGHT)
    marks = trace_of(figure, "chosen")
    assert marks.name == "chosen (weights unknown)"
    assert marks.marker.line.width.tolist() == [0] * 4
    assert len(figure.data) == 2
    assert sorted(set(figure.data[-1].text)) == ["", "<br>chosen"]


def test_path_frames_what_is_in_focus():
    figure = draw_path(random_trace(), focus=(2, 5))
    assert [shape.y0 for shape in figure.layout.shapes[:2]] == [0.5, 1.5]
    box = figure.layout.shapes[2]
    assert (box.x0 + box.x1) / 2 == expert_positions(layout(8, 4))[5]
    assert not draw_path(random_trace(), focus=(0, None)).layout.shapes
