"""The report's figure of one layer's decision for one token: affinity, biased score and weight of every expert."""

from collections.abc import Iterator, Mapping

import numpy as np
import xarray as xr

from viz.axis import expert_positions
from viz.layout import Layout
from viz.report import colors
from viz.report.figure import Plot, columns_of, expert_ticks, figure, line, rect, words
from viz.report.markup import element
from viz.report.routing import symbol

_PANEL, _GAP, _FAINT = 84.0, 30.0, 0.35


def steps(
    experts: xr.Dataset,
    layout: Layout,
    lost: Mapping[str, xr.DataArray],
    by_table: bool = False,
    bias_on: str = "affinity",
) -> str:
    """Draw one layer's decision for one token, a panel per step, experts side by side.

    Args:
        experts: variables [expert] `affinity`, `bias`, `biased` score, `reachable`, `chosen` and `weight` (NaN unless
            selected); scalar coordinate `moe_layer`. See `model.trace.decision.Decision`.
        layout: layout of the router.
        lost: masks [expert] of experts lost to one reason alone, by the names of `viz.routing.SYMBOLS`.
        by_table: whether the experts follow from the token id, so that no score decides; then no score is drawn.
        bias_on: name of the quantity that the bias is added to.
    """
    data = {str(name): array.values for name, array in experts.data_vars.items()}
    layer, positions = int(experts.coords["moe_layer"]), expert_positions(layout)
    panels = {"affinity": "affinity"}
    if not by_table:
        panels["biased"] = f"biased score: {bias_on} + bias" if data["bias"].any() else "score"
    if np.isfinite(data["weight"]).any():
        panels["weight"] = "gate weight of the chosen experts"
    parts, columns = [], columns_of(positions)
    for index, (name, heading) in enumerate(panels.items()):
        plot = Plot(50, 22 + index * (_PANEL + _GAP), 702, _PANEL, columns, 1)
        parts.append(words(plot.left, plot.top - 7, f"{index + 1}  {heading}"))
        is_score = name == "biased"
        parts += _scores(data, positions, plot, lost, layer) if is_score else _bars(name, data, positions, plot, layer)
    last = Plot(50, 22 + (len(panels) - 1) * (_PANEL + _GAP), 702, _PANEL, columns, 1)
    parts.append(expert_ticks(layout, last))
    description = f"{len(panels)} steps of layer {layer}'s decision. Coloured bars and squares are chosen experts."
    if not by_table:
        description += " In step 2, experts on or above the dashed line were chosen, within the kept groups."
    return figure("decision", f"Decision of layer {layer}", description, last.top + _PANEL + 36, parts, layer=layer)


def _bars(name: str, data: dict[str, np.ndarray], positions: np.ndarray, plot: Plot, layer: int) -> Iterator[str]:
    values = np.where(np.isfinite(data[name]), data[name], 0.0)
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    unit, wide = plot.height / ((high - low) or 1.0), 0.86 * plot.cell[0]
    base = plot.top + high * unit
    yield line(plot.left, base, plot.left + plot.width, base, "grid")
    yield words(plot.left - 6, plot.top + 8, f"{high if high > 0 else low:.2g}", "end", "quiet")
    for expert in np.flatnonzero(np.isfinite(data[name])).tolist():
        value, chosen = float(values[expert]), bool(data["chosen"][expert])
        yield rect(
            x=plot.x(float(positions[expert])) - wide / 2, y=base - max(value, 0) * unit, width=wide,
            height=abs(value) * unit, fill=colors.of_expert(expert), fill_opacity=None if chosen else _FAINT,
            hover=f"L{layer}E{expert}: {name} {value:.4g}", data_expert=expert, **{f"data_{name}": value},
        )  # fmt: skip


def _scores(
    data: dict[str, np.ndarray],
    positions: np.ndarray,
    plot: Plot,
    lost: Mapping[str, xr.DataArray],
    layer: int,
) -> Iterator[str]:
    biased, chosen = data["biased"], data["chosen"]
    finite = np.isfinite(biased)
    low, high = (float(reach(biased[finite])) if finite.any() else 0.0 for reach in (np.min, np.max))
    unit, reach = (plot.height - 14) / ((high - low) or 1.0), float(np.clip(0.4 * plot.cell[0], 2, 5))

    def y(expert: int) -> float:
        return plot.top + plot.height - 7 - (float(biased[expert]) - low) * unit

    yield words(plot.left - 6, plot.top + 11, f"{high:.3g}", "end", "quiet")
    yield words(plot.left - 6, plot.top + plot.height - 3, f"{low:.3g}", "end", "quiet")
    if (finite & chosen).any():
        cut = y(int(np.flatnonzero(finite & chosen)[biased[finite & chosen].argmin()]))
        yield line(plot.left, cut, plot.left + plot.width, cut, "line dashed")
    for expert in np.flatnonzero(finite).tolist():
        x, verdict = plot.x(float(positions[expert])), _verdict(expert, data, lost)
        about = {"data_expert": expert, "data_biased": float(biased[expert])}
        hover = element("title", f"L{layer}E{expert}: {float(biased[expert]):.4g}, {verdict}")
        if chosen[expert]:
            frame = {"x": x - reach, "y": y(expert) - reach, "width": 2 * reach, "height": 2 * reach}
            yield element("rect", hover, fill=colors.of_expert(expert), **frame, **about)
        else:
            opacity = None if data["reachable"][expert] else 0.3
            yield element("circle", hover, cx=x, cy=y(expert), r=2.5, fill="var(--muted)", opacity=opacity, **about)
        for name, mask in lost.items():
            if mask.values[expert]:
                yield element("path", d=symbol(name, x, y(expert), reach + 2), class_="lost")


def _verdict(expert: int, data: dict[str, np.ndarray], lost: Mapping[str, xr.DataArray]) -> str:
    if data["chosen"][expert]:
        return "chosen"
    reasons = [name for name, mask in lost.items() if mask.values[expert]]
    return ", ".join(reasons) or ("not chosen" if data["reachable"][expert] else "its group was not kept")
