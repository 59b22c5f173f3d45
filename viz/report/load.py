"""The report's figures of expert load, as ratios to uniform; colours and marks are those of `viz/load.py`."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from viz.axis import expert_positions, layer_labels, spread
from viz.layout import Layout
from viz.load import LOG_LIMIT, Band, clipped_log, verdicts
from viz.report import colors
from viz.report.figure import Plot, columns_of, expert_ticks, figure, layer_ticks, line, rect, words
from viz.report.images import map_image, shades
from viz.report.markup import element
from viz.theme import DARK, LIGHT


def load_bars(
    ratio: xr.DataArray, layout: Layout, layer: int, band: Band | None = None, chosen: tuple[int, ...] = ()
) -> str:
    """Draw a bar per expert of one layer: its ratio to uniform, a dashed line at 1, and the range of chance.

    Args:
        ratio: load ratios [expert]; NaN where no token was counted.
        layout: layout of the router.
        layer: model layer number.
        band: range by chance alone for this many tokens.
        chosen: experts to mark by a dot below their bars.
    """
    values, positions = ratio.values.astype(np.float64), expert_positions(layout)
    top = max(2.0, 1.1 * float(np.nanmax(values, initial=0)), 1.05 * (band.high if band else 0))
    plot = Plot(50, 18, 702, 190, columns_of(positions), 1)
    base, unit = plot.top + plot.height, plot.height / top
    parts = []
    if band is not None:
        high = rect(
            x=plot.left, y=base - band.high * unit, width=plot.width, height=(band.high - band.low) * unit,
            class_="band", hover=f"chance alone: {band.low:.3g} to {band.high:.3g}",
        )  # fmt: skip
        parts.append(high)
    parts += _bars(values, positions, plot, unit, layer, verdicts(values, band))
    parts += [line(plot.left, base - unit, plot.left + plot.width, base - unit, "line dashed"), *_levels(plot, top)]
    parts += [
        element("circle", cx=plot.x(float(positions[at])), cy=base + 4, r=2.5, fill="var(--ink)") for at in chosen
    ]
    parts += [_group_strip(positions, layout, plot, base + 8), expert_ticks(layout, plot._replace(height=204))]
    chance = f" Chance alone gives {band.low:.3g} to {band.high:.3g}." if band else ""
    description = f"A bar per expert of layer {layer}: tokens divided by a fair share.{chance}"
    data = {"layer": layer, "low": band.low if band else None, "high": band.high if band else None}
    return figure("load", f"Load of the experts of layer {layer}", description, base + 54, parts, **data)


def _bars(
    values: np.ndarray, positions: np.ndarray, plot: Plot, unit: float, layer: int, verdict: np.ndarray
) -> Iterator[str]:
    base, wide = plot.top + plot.height, 0.86 * plot.cell[0]
    for expert, value in enumerate(values.tolist()):
        if not np.isfinite(value):
            continue
        x = plot.x(float(positions[expert]))
        about = f"L{layer}E{expert}: {value:.3g} × uniform" + (f", {verdict[expert]}" if verdict[expert] else "")
        yield rect(
            x=x - wide / 2, y=base - value * unit, width=wide, height=value * unit, fill=colors.of_load(value),
            hover=about, data_expert=expert, data_ratio=value,
        )  # fmt: skip
        if value == 0:
            cross = f"M{x - 3:.5g} {base - 7:g}l6 6m0 -6l-6 6"
            yield element("path", element("title", f"L{layer}E{expert} took no token"), d=cross, class_="lost")


def _levels(plot: Plot, top: float) -> Iterator[str]:
    """Yield labels at whole ratios, and the unit."""
    base, step = plot.top + plot.height, max(1, round(top / 5))
    for level in range(0, int(top) + 1, step):
        yield words(plot.left - 6, base - level * plot.height / top + 4, str(level), "end", "quiet")
    yield words(plot.left, plot.top - 6, "× uniform", "start", "quiet")


def _group_strip(positions: np.ndarray, layout: Layout, plot: Plot, y: float) -> str:
    """Return a strip in each group's hue below its experts."""
    size, wide = layout.num_experts // layout.num_groups, plot.cell[0]
    boxes = (
        rect(
            x=plot.x(float(positions[group * size])) - wide / 2,
            y=y,
            width=size * wide,
            height=4,
            fill=colors.of_group(group),
            hover=f"group {group}",
        )  # fmt: skip
        for group in range(layout.num_groups)
    )
    return "".join(boxes)


def load_map(ratio: xr.DataArray, layout: Layout, band: Band | None = None, focus: int | None = None) -> str:
    """Draw layers x experts as a ratio to uniform; a dot marks a ratio that chance alone does not explain.

    Args:
        ratio: load ratios [moe_layer, expert]; NaN where no token was counted.
        layout: layout of the router.
        band: range by chance alone for this many tokens.
        focus: model layer number of the row to frame.
    """
    values, layers = ratio.transpose("moe_layer", "expert").values, layer_labels(ratio)
    positions, number = expert_positions(layout), len(layers)
    plot = Plot(50, 8, 702, float(np.clip(420 / number, 7, 24)) * number, columns_of(positions), number)
    shares = (clipped_log(values[::-1]) + LOG_LIMIT) / (2 * LOG_LIMIT)
    parts = [map_image(shades(spread(shares, positions)), (LIGHT.load, DARK.load), *plot[:4])]
    parts += _dots(values, layers, positions, plot, band)
    if focus in layers.tolist():
        row = number - 1 - layers.tolist().index(focus)
        parts.append(plot.box((plot.columns - 1) / 2, row, plot.columns, 1, class_="line dotted"))
    parts += [layer_ticks(layers, plot), expert_ticks(layout, plot)]
    description = (
        "Rows: MoE layers, the first at the bottom. Columns: experts. Blue is less than a fair share, orange more."
    )
    return figure("load-map", "Load of all experts", description, plot.top + plot.height + 36, parts, layers=number)


def _dots(
    values: np.ndarray, layers: np.ndarray, positions: np.ndarray, plot: Plot, band: Band | None
) -> Iterator[str]:
    if band is None:
        return
    outside = (values < band.low) | (values > band.high)
    for row, expert in zip(*(side.tolist() for side in np.nonzero(outside)), strict=True):
        value = float(values[row, expert])
        yield element(
            "circle", element("title", f"L{layers[row]}E{expert}: {value:.3g} × uniform, outside the range of chance"),
            cx=plot.x(float(positions[expert])), cy=plot.y(len(layers) - 1 - row), r=min(2.5, 0.3 * plot.cell[0]),
            class_="dot", data_layer=int(layers[row]), data_outside=expert,
        )  # fmt: skip


def legend() -> str:
    """Return the colour scale of load ratios as HTML."""
    steps = (rect(x=step * 5, y=2, width=5, height=11, fill=f"var(--load-{step})") for step in range(33))
    scale = element("svg", *steps, width=165, height=15, aria_hidden="true")
    return element("p", element("span", "≤ ¼ × uniform"), scale, element("span", "≥ 4 ×"), class_="figure legend")
