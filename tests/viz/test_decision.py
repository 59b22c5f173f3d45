"""The figure of a decision, by its data."""

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from tests.layouts import layout
from viz import decision
from viz.axis import expert_positions
from viz.routing import LOST_TO_BIAS, LOST_TO_GROUP
from viz.theme import DARK, LIGHT, THEMES, Theme

# Fixture of the router: 8 experts in 4 groups; groups 1 and 3 are kept, experts 2, 3 and 6 selected.
AFFINITY = np.array([0.9, 0.1, 0.6, 0.5, 0.8, 0.05, 0.3, 0.2])
BIAS = np.array([0, 0, 0, 0, -0.3, 0, 0.4, 0.25])
X = expert_positions(layout(8, 4))


def experts(**changed: np.ndarray) -> xr.Dataset:
    chosen, weight = np.isin(np.arange(8), (2, 3, 6)), np.full(8, np.nan)
    weight[[2, 3, 6]] = 1.07, 0.89, 0.54
    arrays = {
        "logit": np.log(AFFINITY / (1 - AFFINITY)), "affinity": AFFINITY, "bias": BIAS, "biased": AFFINITY + BIAS,
        "reachable": np.isin(np.arange(8) // 2, (1, 3)), "chosen": chosen, "weight": weight,
    }  # fmt: skip
    arrays |= changed
    return xr.Dataset({name: ("expert", values) for name, values in arrays.items()}, coords={"moe_layer": 3})


def groups() -> xr.Dataset:
    kept = [False, True, False, True]
    return xr.Dataset({"score": ("group", [1.0, 1.1, 0.55, 1.15]), "kept": ("group", kept)})


def draw(theme: Theme = LIGHT, **options) -> go.Figure:
    return decision.steps(experts(), groups(), layout(8, 4), theme, **options)


def of_panel(figure: go.Figure, row: int) -> list:
    name = "y" if row == 1 else f"y{row}"
    return [part for part in figure.data if (part.yaxis or "y") == name]


def words(figure: go.Figure) -> list[str]:
    return [note.text for note in figure.layout.annotations]


def test_a_panel_for_each_step_in_order() -> None:
    assert [said[0] for said in words(draw())] == ["1", "2", "3", "4", "6", "7"]
    assert words(draw())[3].startswith("4, 5  groups")


def test_bars_are_logits_affinities_and_weights() -> None:
    figure = draw()
    (logits,), (affinities,), (weights,) = (of_panel(figure, row) for row in (1, 2, 6))
    assert logits.y.tolist() == pytest.approx(np.log(AFFINITY / (1 - AFFINITY)))
    assert affinities.y.tolist() == AFFINITY.tolist()
    assert logits.x.tolist() == X.tolist()
    assert [weights.y[place] for place in (2, 3, 6)] == [1.07, 0.89, 0.54]
    assert np.isnan(weights.y[[0, 1, 4, 5, 7]]).all()
    assert affinities.customdata[2].tolist() == pytest.approx([3, 2, 0.6])
    assert "(measured)" in affinities.hovertemplate
    assert "(derived)" in logits.hovertemplate


def test_bias_moves_each_expert_from_where_the_mean_bias_would_put_it() -> None:
    pushes, rings, chosen, others = of_panel(draw(), 3)
    mean = BIAS.mean()
    assert rings.y.tolist() == pytest.approx(AFFINITY + mean)
    assert pushes.y[:2].tolist() == pytest.approx([0.9 + mean, 0.9])
    assert np.isnan(pushes.y[2])
    assert (chosen.x.tolist(), chosen.y.tolist()) == (X[[2, 3, 6]].tolist(), pytest.approx([0.6, 0.5, 0.7]))
    assert others.y.tolist() == pytest.approx([0.9, 0.1, 0.5, 0.05, 0.45])
    assert others.text.tolist() == ["its group was not kept"] * 4 + ["not chosen"]
    assert chosen.customdata[0].tolist() == pytest.approx([3, 2, 0.6, 0, 0.6])


def test_kept_groups_are_thick_and_span_their_experts() -> None:
    (levels,) = of_panel(draw(), 4)
    assert (levels.base + levels.y / 2).tolist() == pytest.approx([1.0, 1.1, 0.55, 1.15])
    thin, thick, *others = levels.y.tolist()
    assert thick > thin
    assert others == [thin, thick]
    assert levels.x.tolist() == X.reshape(4, 2).mean(-1).tolist()
    assert levels.hovertext[1] == "group 1<br>score 1.1 (measured)<br>kept"


def test_the_contest_is_among_experts_of_kept_groups() -> None:
    chosen, others = of_panel(draw(), 5)
    assert chosen.y.tolist() == pytest.approx([0.6, 0.5, 0.7])
    assert (others.x.tolist(), others.y.tolist()) == (X[[7]].tolist(), pytest.approx([0.45]))
    cuts = {line.yref: line.y0 for line in draw().layout.shapes if line.line.dash == "dash"}
    assert cuts == {"y5": pytest.approx(0.5), "y4": pytest.approx(1.1)}


def test_losers_are_marked_on_their_biased_scores() -> None:
    lost = {name: xr.DataArray(np.arange(8) == 0, dims="expert") for name in (LOST_TO_BIAS, LOST_TO_GROUP)}
    marks = [part for part in draw(losers=lost).data if part.name in lost]
    assert [(mark.x.tolist(), mark.y.tolist()) for mark in marks] == [([0], [0.9])] * 2
    assert [mark.marker.symbol for mark in marks] == ["triangle-up-open", "hash-open"]


def test_focus_is_a_line_through_all_panels() -> None:
    line = draw(focus=6).layout.shapes[-1]
    assert (line.x0, line.x1, line.yref, line.y0, line.y1) == (X[6], X[6], "paper", 0, 1)
    assert len(draw().layout.shapes) == len(draw(focus=6).layout.shapes) - 1


def test_logarithms_of_shares_stand_on_the_lowest() -> None:
    shares = np.log(AFFINITY / AFFINITY.sum())
    figure = decision.steps(experts(logit=shares), groups(), layout(8, 4), DARK, logit="ln affinity")
    (bars,) = of_panel(figure, 1)
    assert bars.base == np.floor(shares.min())
    assert (bars.base + bars.y).tolist() == pytest.approx(shares)
    assert words(figure)[0] == "1  ln affinity"


@pytest.mark.parametrize("theme", THEMES.values())
def test_without_groups_and_weights(theme: Theme) -> None:
    plain = experts(reachable=np.full(8, True), weight=np.full(8, np.nan))
    for recorded in (xr.Dataset(), groups().isel(group=[0])):
        assert [said[0] for said in words(decision.steps(plain, recorded, layout(8), theme))] == ["1", "2", "3", "4"]


def test_a_table_leaves_out_the_biased_scores_and_shows_affinities() -> None:
    figure = draw(by_table=True)
    assert not any("biased" in heading for heading in words(figure))
    without = decision.steps(experts(reachable=np.full(8, True)), xr.Dataset(), layout(8), LIGHT, by_table=True)
    assert [heading[:2] for heading in words(without)] == ["1 ", "2 ", "3 ", "4 "]
    assert words(without)[2] == "3  chosen by the token id"
    chosen, others = of_panel(without, 3)
    assert chosen.y.tolist() == [0.6, 0.5, 0.3]
    assert len(others.y) == 5
    assert chosen.showlegend
    assert "bias" not in chosen.hovertemplate
    assert not [line for line in without.layout.shapes if line.line.dash == "dash"]


def test_infinite_logits_are_not_drawn_and_harm_nothing() -> None:
    logits = np.where(np.arange(8) == 0, np.inf, 1.0)
    (bars,) = of_panel(decision.steps(experts(logit=logits), groups(), layout(8, 4), LIGHT), 1)
    assert np.isnan(bars.y[0])
    assert bars.y[1:].tolist() == [1.0] * 7


def test_nothing_was_chosen() -> None:
    none = experts(chosen=np.full(8, False), weight=np.full(8, np.nan))
    figure = decision.steps(none, groups(), layout(8, 4), LIGHT)
    assert [line.yref for line in figure.layout.shapes] == ["y4"]
