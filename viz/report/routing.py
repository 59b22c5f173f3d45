"""The report's figures of routing: the map of one layer, and one token's path through all layers."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xarray as xr

from viz.axis import expert_positions, layer_labels, spread
from viz.layout import Layout
from viz.report import colors
from viz.report.figure import Plot, columns_of, expert_ticks, figure, layer_ticks, line, number_ticks, rect, words
from viz.report.images import map_image, shades
from viz.report.markup import element, text
from viz.routing import LOST_TO_BIAS, LOST_TO_GROUP

OPACITIES = 4  # steps of a chosen expert's opacity, by its weight
LABELLED = 90  # rows of a map; with more, the rows have numbers instead of texts
MOST_CHARACTERS = 14  # of a token's text beside its row


def routing_map(
    at: xr.Dataset, layout: Layout, first: int = 0, labels: Sequence[str] | None = None, chosen: int | None = None
) -> str:
    """Draw the experts of many tokens in one layer: a row per token, a column per expert, groups apart.

    Grey is affinity. A coloured cell is a selected expert, more opaque with a larger gate weight.

    Args:
        at: `expert_id` [token, rank] (-1 is unknown and not drawn) and, if recorded, `gate_weight` [token, rank] and
            `router_score` [token, expert].
        layout: layout of the router.
        first: number of the first token in `at`.
        labels: visible text of the tokens in `at`; None: the rows have numbers.
        chosen: number of the token to frame.
    """
    positions, number = expert_positions(layout), at.sizes["token"]
    shown = labels if labels and number <= LABELLED else None
    tall, left = float(np.clip(720 / number, 12 if shown else 1, 14)), 150.0 if shown else 50.0
    plot = Plot(left, 8, 752 - left, tall * number, columns_of(positions), number)
    parts = [_scores(at, positions, plot, list(range(number)))]
    parts += _marks(at, positions, plot, first)
    parts.append(_rows(plot, first, shown))
    if chosen is not None and first <= chosen < first + number:
        parts.append(_frame(plot, chosen - first))
    description = (
        f"Rows: tokens {first} to {first + number - 1}. Columns: {layout.num_experts} experts in {layout.num_groups} "
        "groups. Coloured cells are the chosen experts; grey is affinity."
    )
    parts.append(expert_ticks(layout, plot))
    data = {"first": first, "tokens": number, "affinity": _largest(at)}
    return figure("map", "Experts of each token", description, plot.top + plot.height + 36, parts, **data)


def token_path(at: xr.Dataset, layout: Layout, lost: Mapping[str, xr.DataArray], focus: int | None = None) -> str:
    """Draw one token's experts in all layers: layers upwards, experts across; see `viz.routing.token_path`.

    Args:
        at: `expert_id` [moe_layer, rank] and, if recorded, `gate_weight`, `router_score` and `group_kept` of one token.
        layout: layout of the router.
        lost: masks [moe_layer, expert] by the names `LOST_TO_BIAS` and `LOST_TO_GROUP`.
        focus: model layer number of the row to frame.
    """
    layers, positions = layer_labels(at["expert_id"]), expert_positions(layout)
    number = len(layers)
    plot = Plot(50, 8, 702, float(np.clip(420 / number, 9, 30)) * number, columns_of(positions), number)
    upside = list(range(number))[::-1]  # row of the figure -> row of the data
    parts = [_scores(at, positions, plot, upside), *_kept(at, layout, positions, plot)]
    parts += _path_cells(at, layers, positions, plot)
    for name, mask in lost.items():
        parts += _lost_marks(name, mask.values, layers, positions, plot)
    if focus in layers.tolist():
        parts.append(_frame(plot, number - 1 - layers.tolist().index(focus)))
    parts += [layer_ticks(layers, plot), expert_ticks(layout, plot)]
    description = f"Rows: MoE layers {layers[0]} to {layers[-1]}, the first at the bottom. Columns: experts."
    data = {"layers": number, "affinity": _largest(at)}
    return figure(
        "path", "Experts of one token in every layer", description, plot.top + plot.height + 36, parts, **data
    )


def _largest(at: xr.Dataset) -> float | None:
    """Return the largest affinity, which has the darkest grey; None without affinities."""
    return float(np.nanmax(at["router_score"].values, initial=0)) if "router_score" in at else None


def _scores(at: xr.Dataset, positions: np.ndarray, plot: Plot, order: list[int]) -> str:
    """Return the map of affinities; its rows are those of the data in this order."""
    if "router_score" not in at:
        return ""
    share = spread(at["router_score"].values[order], positions) / max(_largest(at) or 0, 1e-6)
    return map_image(shades(share), colors.grey_scales(), *plot[:4])


def _marks(at: xr.Dataset, positions: np.ndarray, plot: Plot, first: int) -> Iterator[str]:
    """Yield one path per expert and step of opacity: a filled cell for each token that selected the expert."""
    ids, opacity = at["expert_id"].values, opacities(at)
    rows, ranks = np.nonzero(ids >= 0)
    experts, steps = ids[rows, ranks], np.ceil(opacity[rows, ranks] * OPACITIES).astype(int)
    wide, high = plot.cell
    for expert, step in sorted(set(zip(experts.tolist(), steps.tolist(), strict=True))):
        at_rows = rows[(experts == expert) & (steps == step)].tolist()
        left = plot.left + float(positions[expert]) * wide
        cells = "".join(
            f"M{left:.5g} {plot.top + row * high:.6g}h{wide:.4g}v{high:.4g}h-{wide:.4g}z" for row in at_rows
        )
        yield element(
            "path", element("title", f"E{expert}"), d=cells, fill=colors.of_expert(expert),
            fill_opacity=step / OPACITIES, data_expert=expert, data_tokens=_numbers(first, at_rows),
        )  # fmt: skip


def _numbers(first: int, rows: list[int]) -> str:
    return " ".join(str(first + row) for row in rows)


def opacities(at: xr.Dataset) -> np.ndarray:
    """Return the opacity of each selected expert, from 0.3 to 1 by its weight; 1 where the weight is unknown."""
    if "gate_weight" not in at:
        return np.ones(at["expert_id"].shape)
    weights = at["gate_weight"].values.astype(np.float64)
    known = np.isfinite(weights)
    strongest = max(float(weights[known].max(initial=0)), 1e-9)
    return np.where(known, 0.3 + 0.7 * np.clip(np.where(known, weights, 0) / strongest, 0, 1), 1)


def _rows(plot: Plot, first: int, labels: Sequence[str] | None) -> str:
    """Return the labels of the rows: the number and text of each token, or round numbers."""
    if labels is None:
        ends = plot.y(0), plot.y(plot.rows - 1)
        ticks = number_ticks(first, int(plot.rows), ends)
        return "".join(words(plot.left - 6, at + 4, label, "end", "quiet") for at, label in ticks)
    rows = (
        words(28, plot.y(row) + 4, str(first + row), "end", "quiet")
        + element("text", text(label, MOST_CHARACTERS), x=34, y=plot.y(row) + 4, class_="label")
        for row, label in enumerate(labels)
    )
    return "".join(rows)


def _frame(plot: Plot, row: int) -> str:
    """Return two dotted lines around a row."""
    high, right = plot.cell[1] / 2, plot.left + plot.width
    return "".join(
        line(plot.left, plot.y(row) + side * high, right, plot.y(row) + side * high, "line dotted") for side in (-1, 1)
    )


def _kept(at: xr.Dataset, layout: Layout, positions: np.ndarray, plot: Plot) -> Iterator[str]:
    """Yield a band behind every kept group of every layer."""
    if "group_kept" not in at or layout.num_groups == 1:
        return
    number, size = at.sizes["moe_layer"], layout.num_experts // layout.num_groups
    for row, group in zip(*(side.tolist() for side in np.nonzero(at["group_kept"].values)), strict=True):
        middle = float(positions[group * size] + positions[group * size + size - 1]) / 2
        yield plot.box(middle, number - 1 - row, size + 0.2, 0.92, class_="kept", data_group=group)


def _path_cells(at: xr.Dataset, layers: np.ndarray, positions: np.ndarray, plot: Plot) -> Iterator[str]:
    ids, opacity = at["expert_id"].values, opacities(at)
    known = "gate_weight" in at
    for row, rank in zip(*(side.tolist() for side in np.nonzero(ids >= 0)), strict=True):
        expert = int(ids[row, rank])
        weight = float(at["gate_weight"].values[row, rank]) if known else np.nan
        hover = f"L{layers[row]}E{expert}" + (f", weight {weight:.3g}" if np.isfinite(weight) else "")
        outline = {"stroke": "var(--ink)", "stroke_width": 2} if rank == 0 and known else {}
        yield plot.box(
            float(positions[expert]), len(layers) - 1 - row, 0.86, 0.7, hover=hover, fill=colors.of_expert(expert),
            fill_opacity=float(opacity[row, rank]), data_layer=int(layers[row]), data_expert=expert, data_rank=rank,
            data_weight=weight if np.isfinite(weight) else None, **outline,
        )  # fmt: skip


def _lost_marks(name: str, mask: np.ndarray, layers: np.ndarray, positions: np.ndarray, plot: Plot) -> Iterator[str]:
    """Yield a hollow triangle for experts lost only to the bias, a hatched cell for those lost to the group limit."""
    reach = min(6.0, 0.4 * plot.cell[1], 0.45 * plot.cell[0])
    for row, expert in zip(*(side.tolist() for side in np.nonzero(mask)), strict=True):
        x, y = plot.x(float(positions[expert])), plot.y(len(layers) - 1 - row)
        yield element(
            "path", element("title", f"L{layers[row]}E{expert} {name}"), d=symbol(name, x, y, reach), class_="lost",
            data_layer=int(layers[row]), data_lost=expert, data_to="bias" if name == LOST_TO_BIAS else "groups",
        )  # fmt: skip


def symbol(name: str, x: float, y: float, reach: float) -> str:
    """Return the outline of the mark for `LOST_TO_BIAS` or `LOST_TO_GROUP`, as the `d` of a path."""
    if name == LOST_TO_GROUP:
        third, whole = reach / 2.5, 2 * reach
        upright = "".join(f"M{x + side * third:.5g} {y - reach:.5g}v{whole:.4g}" for side in (-1, 1))
        return upright + "".join(f"M{x - reach:.5g} {y + side * third:.5g}h{whole:.4g}" for side in (-1, 1))
    return f"M{x:.5g} {y - reach:.5g}l{reach:.4g} {1.8 * reach:.4g}h-{2 * reach:.4g}z"


def legend(has_weights: bool, lost: Mapping[str, object], kept: bool) -> str:
    """Return the legend of the path as HTML; of groups and lost experts only what the figure may hold."""
    square = rect(x=1, y=2, width=11, height=11, fill=colors.of_expert(0))
    outlined = rect(x=1, y=2, width=11, height=11, fill=colors.of_expert(0), stroke="var(--ink)", stroke_width=2)
    entries = [(square, "chosen; stronger: larger weight" if has_weights else "chosen; weights unknown")]
    entries += [(outlined, "largest weight")] if has_weights else []
    entries += [(rect(x=1, y=2, width=11, height=11, class_="kept"), "kept group")] if kept else []
    entries += [(element("path", d=symbol(name, 7, 7, 5.5), class_="lost"), name) for name in lost]
    marks = (
        element("span", element("svg", mark, width=15, height=15, aria_hidden="true"), text(name))
        for mark, name in entries
    )
    return element("p", *marks, class_="figure legend")
