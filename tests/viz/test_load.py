from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

from model.trace.chance import load_band
from model.trace.metrics import relative_load, tokens_per_expert, tokens_per_group
from tests.layouts import layout
from tests.traces import random_trace
from viz.axis import expert_positions
from viz.load import clipped_log, group_load, load_bars, load_heatmap, load_strip, verdicts
from viz.theme import DARK, LIGHT


@dataclass(frozen=True)
class Chance:
    num_tokens: int = 40
    confidence: float = 0.95
    low: float = 0.5
    high: float = 1.5
    group_low: float = 0.6
    group_high: float = 1.4


def load(values, layers=(3, 4)):
    values = np.array(values)
    return xr.DataArray(values, dims=("moe_layer", "expert"), coords={"moe_layer": list(layers)[: len(values)]})


RATIOS = load([[0.0, 1.0, 2.0, 1.0], [8.0, 0.25, 1.0, 1.0]])


def test_colour_is_clipped_and_dead_experts_are_at_the_low_end():
    assert clipped_log(np.array([0, 0.25, 1, 2, 9, np.nan]))[:5].tolist() == [-2, -2, 0, 1, 2]
    assert np.isnan(clipped_log(np.array([np.nan]))[0])
    assert clipped_log(np.ones(1)).dtype == np.float32


def test_verdict_names_dead_starved_hot_and_chance():
    said = verdicts(np.array([0.0, 0.4, 1.0, 1.6]), Chance())
    assert said[0].startswith("took no token; less than chance")
    assert said[1].startswith("less than chance explains")
    assert said[2] == "within chance"
    assert said[3].startswith("more than chance explains")
    assert verdicts(np.array([0.0, 1.0]), None).tolist() == ["took no token", ""]


def test_heatmap_keeps_exact_ratios_for_hover_and_dots_what_chance_does_not_explain():
    picture, dots, points = load_heatmap(RATIOS, layout(4, 2), LIGHT, Chance()).data
    assert picture.zmin == -picture.zmax
    assert points.customdata[:2].tolist() == [[3, 0, 0], [3, 1, 1]]
    assert points.customdata[4].tolist() == [4, 0, 8]
    assert sorted(zip(dots.y.tolist(), dots.x.tolist(), strict=True)) == [(0, 0), (0, 3), (1, 0), (1, 1)]


def test_heatmap_says_on_how_many_tokens():
    text = load_heatmap(RATIOS, layout(4, 1), DARK, Chance()).layout.annotations[0].text
    assert text == "n = 40 tokens; chance alone: 0.5 to 1.5; ● outside it"  # as much as a phone shows


def test_heatmap_of_a_layer_without_counts_is_blank():
    assert np.isnan(load_heatmap(load([[np.nan, np.nan]]), layout(2), LIGHT).data[0].z).all()


def test_strip_draws_every_bar_once_and_grey_inside_the_band():
    under, within, over, points, lines = load_strip(RATIOS, layout(4, 2), LIGHT, Chance()).data
    assert lines.y[[0, 3]].tolist() == pytest.approx([-0.225, 0.775])
    assert [len(part.x) // 3 for part in (under, within, over)] == [2, 4, 2]
    assert float(np.nanmax(over.y)) == pytest.approx(1.45)
    assert points.customdata[4].tolist() == [4, 0, 8]


def test_bars_have_a_dashed_line_at_one_and_the_band():
    figure = load_bars(RATIOS.sel(moe_layer=3), layout(4, 2), LIGHT, Chance())
    assert figure.data[0].y.tolist() == [0, 1, 2, 1]
    assert figure.data[0].x.tolist() == expert_positions(layout(4, 2)).tolist()
    assert figure.data[0].marker.color[1] == LIGHT.load[3]
    assert figure.data[1].customdata.tolist() == [[0]]  # the dead expert
    assert figure.data[0].customdata.tolist() == [[0], [1], [2], [3]]
    dashed = [shape for shape in figure.layout.shapes if shape.line.dash == "dash"]
    assert [(shape.y0, shape.y1) for shape in dashed] == [(1, 1)]
    assert any((shape.y0, shape.y1) == (0.5, 1.5) for shape in figure.layout.shapes)


def test_bars_outline_the_chosen_expert_and_name_it():
    figure = load_bars(RATIOS.sel(moe_layer=3), layout(4, 2), LIGHT, Chance(), chosen=2)
    assert figure.data[0].marker.line.width.tolist() == [0, 0, 2, 0]
    named = [note for note in figure.layout.annotations if note.text == "E2"]
    assert [(note.x, note.y) for note in named] == [(float(expert_positions(layout(4, 2))[2]), 2)]
    assert load_bars(RATIOS.sel(moe_layer=3), layout(4, 2), LIGHT).data[0].marker.line.width.tolist() == [0, 0, 0, 0]


def test_group_load_shows_the_number_in_every_cell_and_what_is_beyond_chance():
    groups = xr.DataArray([[0.5, 1.25]], dims=("moe_layer", "group"), coords={"moe_layer": [3]})
    picture, numbers = group_load(groups, LIGHT, Chance()).data
    assert numbers.text.tolist() == ["0.5 ●", "1.25"]
    assert numbers.customdata.tolist() == [[3, 0], [3, 1]]
    assert picture.z.tolist() == [[-1, np.float32(np.log2(1.25))]]
    figure = group_load(groups, DARK)
    assert figure.data[1].text.tolist() == ["0.5", "1.25"]
    assert group_load(groups, LIGHT, Chance()).layout.annotations[0].text.startswith("n = 40 tokens; chance alone: 0.6")


@pytest.mark.parametrize("num_new", [0, 4])
def test_figures_take_what_the_metrics_give(num_new):
    trace = random_trace(num_prompt=1, num_new=num_new)
    counts = tokens_per_expert(trace.data["expert_id"], 8)
    band = load_band(trace.num_tokens, 8, 2, 4, 2, draws=20)
    ratio = relative_load(counts)
    for figure in (load_heatmap(ratio, layout(8, 4), LIGHT, band), load_strip(ratio, layout(8, 4), DARK, band)):
        assert figure.layout.height > 100
    assert len(load_bars(ratio.isel(moe_layer=0), layout(8, 4), LIGHT, band).data[0].y) == 8
    groups = tokens_per_group(counts, 4)
    assert group_load(groups / groups.mean("group"), LIGHT).data[0].z.shape == (2, 4)
