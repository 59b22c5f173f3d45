import numpy as np
import pytest
import xarray as xr

from tests.layouts import layout
from viz.axis import expert_positions
from viz.importance import color_limit, effect_against_load, hover_texts, importance_map, untouched
from viz.theme import DARK, LIGHT, THEMES, colorscale, group_hue

NAN = np.nan
LAYOUT = layout(4, 2)


def effects(layers=(3, 4)):
    values = {
        "logprob_change": [[-0.5, 0.0, 0.25, 0.0], [NAN, 0.125, NAN, -0.001]],
        "kl": [[0.4, 0.0, 0.2, 0.01], [NAN, 0.1, NAN, 0.002]],
        "chosen_by": [[9, 0, 5, 0], [2, 3, 4, 5]],
        "rerouted": [[9, 0, 7, 2], [0, 3, 0, 5]],
    }
    data = {name: (("moe_layer", "expert"), np.array(rows)) for name, rows in values.items()}
    return xr.Dataset(data, coords={"moe_layer": list(layers)})


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_map_is_coloured_by_change_round_zero_and_never_as_load(theme):
    picture = importance_map(effects(), LAYOUT, theme, 12).data[0]
    assert picture.zmin == -picture.zmax
    assert [list(stop) for stop in picture.colorscale] == colorscale(theme.change)
    assert not set(theme.change) & set(theme.load)


def test_map_has_the_numbers_groups_apart():
    picture, _, points = importance_map(effects(), LAYOUT, LIGHT, 12).data
    assert picture.z[0].tolist()[:2] == [-0.5, 0.0]
    assert np.isnan(picture.z[0][2])
    assert picture.z[0].tolist()[3:] == [0.25, 0.0]
    np.testing.assert_allclose(points.customdata[0], [3, 0, -0.5, 0.4, 9], rtol=1e-6)
    np.testing.assert_allclose(points.customdata[7], [4, 3, -0.001, 0.002, 5], rtol=1e-6)
    assert points.x[:4].tolist() == expert_positions(LAYOUT).tolist()
    assert points.y.tolist() == [0] * 4 + [1] * 4


def test_only_what_changed_nothing_is_crossed_out():
    assert untouched(effects()).tolist() == [[False, True, False, False], [False] * 4]
    crosses = importance_map(effects(), LAYOUT, DARK, 12).data[1]
    assert (crosses.x.tolist(), crosses.y.tolist()) == ([1.0], [0])


def test_words_tell_rerouted_from_untouched_and_not_done():
    words = hover_texts(effects()).tolist()
    assert words[0] == [
        "9 tokens rerouted",
        "nothing changed: exactly 0",
        "7 tokens rerouted; of these, only because the groups' scores changed: 2",
        "2 tokens rerouted; of these, only because the groups' scores changed: 2",
    ]
    assert words[1][0] == "not computed"


def test_scale_ends_where_nearly_all_changes_lie():
    changes = np.concatenate([np.linspace(-0.1, 0.1, 100), [-9.0], np.zeros(500), [NAN]])
    assert 0.09 < color_limit(changes) < 0.11
    assert color_limit(np.zeros(3)) == color_limit(np.full(3, NAN)) == 1e-6


def test_chosen_cell_is_framed_by_its_label():
    (frame,) = importance_map(effects(), LAYOUT, LIGHT, 12, chosen=(4, 2)).layout.shapes
    middle = float(expert_positions(LAYOUT)[2])
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (middle - 0.5, middle + 0.5, 0.5, 1.5)
    for nowhere in ((9, 2), (4, 7), None):
        assert not importance_map(effects(), LAYOUT, LIGHT, 12, chosen=nowhere).layout.shapes


def test_figures_say_on_how_many_tokens():
    for figure in (
        importance_map(effects(), LAYOUT, LIGHT, 1234),
        effect_against_load(effects(), LAYOUT, LIGHT, 1234),
    ):
        assert figure.layout.annotations[0].text.startswith("n = 1,234 tokens")


def test_points_stand_at_their_load_and_change_and_leave_out_what_was_not_done():
    points = effect_against_load(effects(), LAYOUT, LIGHT, 12, layer=4).data[0]
    assert points.x.tolist() == [9, 0, 5, 0, 3, 5]
    np.testing.assert_allclose(points.y, [-0.5, 0, 0.25, 0, 0.125, -0.001], rtol=1e-6)
    assert points.marker.color.tolist() == [group_hue(group) for group in (0, 0, 1, 1, 0, 1)]
    assert points.marker.symbol.tolist() == ["circle-open"] * 4 + ["circle"] * 2
    assert points.customdata[4][:2].tolist() == [4, 1]


def test_size_stays_while_the_map_fills():
    empty = effects()
    empty["kl"][:] = NAN
    empty["logprob_change"][:] = NAN
    for draw in (importance_map, effect_against_load):
        assert draw(empty, LAYOUT, LIGHT, 12).layout.height == draw(effects(), LAYOUT, LIGHT, 12).layout.height
