import networkx as nx
import numpy as np
import xarray as xr

from model.trace import routing as derived
from tests.layouts import layout
from tests.traces import random_trace
from viz import pairs
from viz.theme import DARK, LIGHT


def test_coactivation_leaves_out_the_diagonal_and_empty_rows():
    counts = xr.DataArray([[4, 2], [0, 0]], dims=("expert", "other_expert"), coords={"moe_layer": 4})
    figure = pairs.coactivation(counts, 9, layout(2), LIGHT)
    picture, points = figure.data
    assert np.isnan(picture.z).tolist() == [[True, False], [True, True]]
    assert points.customdata.tolist() == [[0, 1, 0.5, 2, 4]]
    assert figure.layout.yaxis.title.text == "tokens of, L4"
    assert figure.layout.annotations[-1].text == "share of tokens, n = 9 tokens"


def test_large_squares_are_hovered_without_click_points():
    counts = xr.DataArray(np.full((256, 256), 3), dims=("expert", "other_expert"))
    figure = pairs.coactivation(counts, 3, layout(256, 8), LIGHT)
    assert len(figure.data) == 1
    assert figure.data[0].z.dtype == np.float32
    assert figure.data[0].customdata[-1, 0].tolist() == [255, 0]
    assert "count" not in figure.data[0].hovertemplate


def test_transitions_are_shares_of_each_row():
    counts = xr.DataArray([[3, 1], [0, 0]], dims=("expert", "next_expert"), coords={"moe_layer": 4})
    figure = pairs.transitions(counts, layout(2), LIGHT)
    assert figure.data[0].z[0].tolist() == [0.75, 0.25]
    assert np.isnan(figure.data[0].z[1]).all()
    assert figure.layout.yaxis.title.text == "expert, L4"
    assert figure.layout.annotations[-1].text == "share of pairs, n = 4 pairs"


def test_graph_holds_the_common_steps():
    counts = xr.DataArray(np.array([[[5, 0], [2, 3]]]), dims=("moe_layer", "expert", "next_expert"))
    graph, fewest = pairs.common_steps(counts, 2)
    assert isinstance(graph, nx.DiGraph)
    assert fewest == 3
    assert dict(graph.edges) == {((0, 0), (1, 0)): {"count": 5}, ((0, 1), (1, 1)): {"count": 3}}


def test_graph_cuts_no_tie():
    counts = xr.DataArray(np.array([[[3, 3], [3, 4]]]), dims=("moe_layer", "expert", "next_expert"))
    graph, fewest = pairs.common_steps(counts, 2)
    assert fewest == 4
    assert graph.number_of_edges() == 1


def test_graph_draws_every_edge_once():
    trace = random_trace(num_prompt=20, num_layers=4)
    counts = derived.transitions(trace.data["expert_id"], 8)
    figure = pairs.transition_graph(counts, layout(8, 4), LIGHT, num_edges=20)
    graph, fewest = pairs.common_steps(counts, 20)
    edges = sum(int(np.isnan(part.x).sum()) for part in figure.data[:-1])
    assert 0 < edges == graph.number_of_edges() <= 40
    assert figure.data[-1].customdata[:, 0].max() == 3
    assert figure.layout.annotations[-1].text == f"transitions of at least {fewest} tokens (derived)"


def test_graph_draws_the_steps_of_the_focus_in_ink():
    counts = xr.DataArray(np.array([[[5, 0], [2, 3]]]), dims=("moe_layer", "expert", "next_expert"))
    figure = pairs.transition_graph(counts, layout(2), LIGHT, focus=(0, 0))
    ink = [part for part in figure.data if part.line.color == LIGHT.ink]
    assert sum(int(np.isnan(part.x).sum()) for part in ink) == 1


def test_graph_without_any_step_is_empty():
    counts = xr.DataArray(np.zeros((1, 2, 2), int), dims=("moe_layer", "expert", "next_expert"))
    assert len(pairs.transition_graph(counts, layout(2), DARK).data[-1].x) == 0
