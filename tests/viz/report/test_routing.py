"""The map of one layer and the path of one token."""

import re
from typing import Any

import numpy as np

from tests.layouts import layout
from tests.reports import Reader, cells
from tests.traces import random_trace
from viz.axis import expert_positions
from viz.report import routing
from viz.report.colors import css
from viz.report.figure import number_ticks
from viz.routing import LOST_TO_BIAS, LOST_TO_GROUP
from viz.theme import DARK, LIGHT, expert_color


def drawn_map(**options: Any) -> Reader:
    return Reader(routing.routing_map(random_trace().data.sel(moe_layer=2), layout(8, 4), **options))


def test_cells_of_the_map_lie_where_their_token_and_expert_are() -> None:
    page, ids = drawn_map(first=20), random_trace().data["expert_id"].sel(moe_layer=2).values
    (svg,) = page.all("svg")
    positions = expert_positions(layout(8, 4))
    wide, high = 702 / (positions[-1] + 1), 14
    found = set()
    for mark in page.all("path"):
        for x, y in re.findall(r"M([\d.]+) ([\d.]+)h", mark.attributes["d"]):
            row = round((float(y) - 8) / high)
            assert np.isclose(float(x), 50 + positions[int(mark.data("expert"))] * wide, atol=0.1)
            found.add((row, int(mark.data("expert"))))
            assert str(20 + row) in mark.data("tokens").split()
    assert found == {(token, int(expert)) for token, row in enumerate(ids) for expert in row}
    assert svg.data("first") == "20"


def test_affinity_is_the_shade_of_its_cell() -> None:
    page, scores = drawn_map(), random_trace().data["router_score"].sel(moe_layer=2).values
    light, _ = page.all("image")
    found = cells(light)[:, expert_positions(layout(8, 4)).astype(int)]
    assert np.abs(found / 63 - scores / scores.max()).max() < 0.51 / 63
    assert float(page.figure("map").data("affinity")) == np.float32(f"{scores.max():.5g}")


def test_a_larger_weight_is_more_opaque() -> None:
    at = random_trace().data.sel(moe_layer=2)
    weights, opacity = at["gate_weight"].values, routing.opacities(at)
    assert opacity[np.unravel_index(weights.argmax(), weights.shape)] == 1
    assert (np.diff(opacity.ravel()[np.argsort(weights.ravel())]) >= 0).all()
    assert (routing.opacities(at.drop_vars("gate_weight")) == 1).all()


def test_rows_have_texts_if_they_fit_and_numbers_otherwise() -> None:
    labels = [f"word{index}" for index in range(10)]
    texts = [label.text for label in drawn_map(labels=labels).all("text", class_="label")]
    assert texts == labels
    assert drawn_map().all("text", class_="label") == []


def test_the_path_marks_ranks_kept_groups_and_lost_experts() -> None:
    trace = random_trace()
    at = trace.data.isel(token=3)
    mask = at["router_score"].copy(data=np.zeros(at["router_score"].shape, bool))
    mask[0, 5] = True
    page = Reader(routing.token_path(at, layout(8, 4), {LOST_TO_BIAS: mask, LOST_TO_GROUP: mask}, focus=2))
    chosen = {
        (int(box.data("layer")), int(box.data("rank"))): int(box.data("expert")) for box in page.with_data("rank")
    }
    assert chosen == {
        (layer, rank): int(at["expert_id"].sel(moe_layer=layer)[rank]) for layer in (1, 2) for rank in (0, 1)
    }
    first = {int(box.data("rank")) for box in page.all("rect", stroke="var(--ink)")}
    assert first == {0}
    assert len(page.all("rect", class_="kept")) == int(at["group_kept"].sum())
    assert [(lost.data("layer"), lost.data("lost")) for lost in page.all("path", class_="lost")] == [("1", "5")] * 2
    assert len(page.all("line", class_="dotted")) == 2


def test_an_expert_has_the_pages_color_in_each_theme() -> None:
    light, dark = css(layout(8, 4)).split("@media screen")
    for part, theme in ((light, LIGHT), (dark, DARK)):
        assert f"--e5: {expert_color(5, layout(8, 4), theme)};" in part
    assert "--e0" not in css(None)


def test_ticks_are_round_numbers() -> None:
    assert number_ticks(0, 3, (10.0, 30.0)) == [(10.0, "0"), (20.0, "1"), (30.0, "2")]
    assert [label for _, label in number_ticks(1000, 1000, (0.0, 999.0))] == [f"{n:,}" for n in range(1000, 2000, 100)]
    assert number_ticks(5, 1, (7.0, 7.0)) == [(7.0, "5")]
