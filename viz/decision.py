"""One layer's routing decision for one token: a panel per step, from logit to weight, experts side by side.

Takes labelled arrays (axes `expert`, `group`) and returns a Plotly figure. Each step shows only the candidates of the
step before: the top-k panel lacks the experts of groups that were not kept, and experts that were not selected have no
weight. A clickable mark has `customdata` (layer, expert).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import expert_axis, expert_positions
from viz.layout import Layout
from viz.routing import LEGEND, SYMBOLS
from viz.theme import Theme, expert_colors, group_hue, style, translucent

_PANEL, _GAP, _TOP, _BOTTOM = 80, 32, 72, 44  # pixels: panel, heading between panels, legend, axis
_FAINT = 0.35  # opacity of experts that were not selected
Panel = tuple[str, str, Callable[[], Iterator[go.Scatter | go.Bar]]]


def steps(
    experts: xr.Dataset,
    groups: xr.Dataset,
    layout: Layout,
    theme: Theme,
    losers: Mapping[str, xr.DataArray] | None = None,
    focus: int | None = None,
    logit: str = "logit",
    origin: str = "measured",
    logit_origin: str = "derived",
    bias_on: str = "affinity",
    by_table: bool = False,
) -> go.Figure:
    """Draw one layer's decision for one token, a panel per step.

    Args:
        experts: variables [expert] `logit`, `affinity`, `bias`, `biased` score, `reachable` (bool: its
            group was kept), `chosen` (bool: selected) and `weight` (NaN unless selected); scalar coordinate
            `moe_layer`.
        groups: variables [group] `score` and `kept` (bool). Without them, or with one group, the panel of groups is
            left out.
        layout: layout of the router.
        theme: colours.
        losers: masks [expert], computed from recorded scores, of the experts that lost only to the bias, or only to the
            group limit; the keys are those of `viz.routing.SYMBOLS`.
        focus: expert to mark by a line through all panels.
        logit: name of the quantity in the first panel.
        origin: how the recorded numbers came about, such as `measured`; the hover text says it.
        logit_origin: how the quantity in the first panel came about.
        bias_on: name of the quantity that the bias is added to.
        by_table: whether the experts follow from the token id, so that no score decides; then no panel has biased
            scores.
    """
    drawing = _Drawing(experts, groups, layout, theme, losers or {}, origin, by_table)
    panels = list(drawing.panels(logit, logit_origin, bias_on))
    height = _TOP + _BOTTOM + len(panels) * (_PANEL + _GAP)
    parts = [part.update(yaxis=_axis(row)) for row, (_, _, draw) in enumerate(panels, 1) for part in draw()]
    axes: dict[str, Any] = {"xaxis": expert_axis(layout) | {"anchor": _axis(len(panels))}}
    for row, (name, _, _) in enumerate(panels, 1):
        top = 1 - (row - 1) * (_PANEL + _GAP) / (height - _TOP - _BOTTOM)
        domain = {"domain": [max(0.0, top - _PANEL / (height - _TOP - _BOTTOM)), top], "nticks": 4}
        axes[_axis(row).replace("y", "yaxis")] = domain | ({"range": drawing.group_range} if name == "groups" else {})
    corner = {"xref": "paper", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "showarrow": False}
    headings = [corner | {"text": text, "yref": f"{_axis(row)} domain"} for row, (_, text, _) in enumerate(panels, 1)]
    plot_layout = {
        "annotations": headings,
        "shapes": [*drawing.lines(panels), *_crosshair(drawing, focus)],
        "margin": {"l": 8, "r": 8, "t": _TOP, "b": _BOTTOM},
        "legend": LEGEND | {"y": 1 + 26 / height},
        "showlegend": True,
    }  # fmt: skip
    # Passed at once: Plotly validates every later addition to a figure, which took a quarter of a second here.
    return style(go.Figure(parts, axes), theme, height, **plot_layout)


class _Drawing:
    """The data and colours of the panels."""

    def __init__(
        self,
        experts: xr.Dataset,
        groups: xr.Dataset,
        layout: Layout,
        theme: Theme,
        losers: Mapping[str, xr.DataArray],
        origin: str,
        by_table: bool,
    ) -> None:
        self.theme, self.losers, self.origin, self.by_table = theme, losers, origin, by_table
        self.groups = groups if layout.num_groups > 1 else xr.Dataset()
        self.data: dict[str, np.ndarray] = {str(name): array.values for name, array in experts.data_vars.items()}
        self.layer, self.chosen = int(experts.coords["moe_layer"]), self.data["chosen"]
        self.x = expert_positions(layout)
        self.size = int(np.clip(420 / len(self.x), 6, 11))
        self.colors = np.array(expert_colors(layout, theme))
        self.faint = np.array([translucent(color, _FAINT) for color in self.colors])

    def panels(self, logit: str, logit_origin: str, bias_on: str) -> Iterator[Panel]:
        """Yield name, heading and drawing function of each panel, from the first step to the last."""
        yield "logit", f"1  {logit}", lambda: self._bars("logit", f"{logit} %{{y:.3~g}} ({logit_origin})")
        yield "affinity", "2  affinity", lambda: self._bars("affinity", f"affinity %{{y:.3~g}} ({self.origin})")
        biased = f"biased score: {bias_on} + bias" if self.data["bias"].any() else f"score: {bias_on}, without a bias"
        if not self.by_table:
            yield "biased", f"3  {biased}", self._biased
        if self.groups:
            yield "groups", "4, 5  groups: score, kept or not", self._group_scores
        contest = "top-k in the kept groups" if self.groups else "top-k"
        number = 3 if self.by_table else 6 if self.groups else 4
        yield "contest", f"{number}  {'chosen by the token id' if self.by_table else contest}", self._contest
        if np.isfinite(self.data["weight"]).any():
            yield (
                "weight",
                f"{number + 1}  gate weight of the chosen experts",
                lambda: self._bars("weight", f"weight %{{y:.3~g}} ({self.origin})"),
            )

    def lines(self, panels: list[Panel]) -> Iterator[dict[str, Any]]:
        """Yield dashed lines at the lowest selected score, in the panels of groups and of the top-k."""
        names = [name for name, _, _ in panels]
        cuts = {} if self.by_table else {"contest": self.data["biased"][self.chosen]}
        if self.groups and not self.groups["kept"].values.all():
            cuts["groups"] = self.groups["score"].values[self.groups["kept"].values]
        dash = {"type": "line", "line": {"color": self.theme.ink, "width": 1, "dash": "dash"}, "x0": 0, "x1": 1}
        for name, scores in cuts.items():
            if len(scores):
                axis, level = _axis(names.index(name) + 1), float(scores.min())
                yield dash | {"xref": "x domain", "yref": axis, "y0": level, "y1": level}

    @property
    def group_range(self) -> list[float]:
        """Range of the groups' scores, with a margin at both ends."""
        low, high = float(self.groups["score"].min()), float(self.groups["score"].max())
        margin = 0.15 * (high - low) or 1.0
        return [low - margin, high + margin]

    def _bars(self, name: str, hover: str) -> Iterator[go.Bar]:
        values = np.where(np.isfinite(self.data[name]), self.data[name], np.nan)
        # Bars from 0 would hang down if all values are negative, such as logarithms; they start below the lowest value.
        base = float(np.floor(np.nanmin(values))) if name == "logit" and np.nanmax(values) <= 0 else 0.0
        yield go.Bar(
            x=self.x, y=values - base, base=base, width=0.85, showlegend=False,
            marker={"color": np.where(self.chosen, self.colors, self.faint), "line": {"width": 0}},
            customdata=self._cells(values), hovertemplate=self._hover(hover.replace("%{y", "%{customdata[2]")),
        )  # fmt: skip

    def _biased(self) -> Iterator[go.Scatter]:
        bias, biased = self.data["bias"], self.data["biased"]
        unbiased = biased - bias + bias.mean()
        gap = np.full(len(self.x), np.nan)
        if bias.any():
            yield from self._shifts(unbiased, biased, gap)
        yield from self._candidates(np.full(len(self.x), True), legend=True)
        for name, mask in self.losers.items():
            lost = {"symbol": SYMBOLS[name], "size": self.size + 4, "color": self.theme.ink, "line": {"width": 1.5}}
            at = mask.values
            yield go.Scatter(x=self.x[at], y=biased[at], mode="markers", marker=lost, name=name, hoverinfo="skip")

    def _shifts(self, unbiased: np.ndarray, biased: np.ndarray, gap: np.ndarray) -> Iterator[go.Scatter]:
        """Yield a ring where the mean bias would put each expert, and a line from there to its score."""
        shift = {"color": translucent(self.theme.muted, 0.7), "width": 1.5}
        yield go.Scatter(
            x=np.stack([self.x, self.x, gap], axis=1).ravel(), y=np.stack([unbiased, biased, gap], axis=1).ravel(),
            mode="lines", line=shift, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        ring = {"symbol": "circle-open", "size": 6, "color": self.theme.muted}
        yield go.Scatter(x=self.x, y=unbiased, mode="markers", marker=ring, name="with the mean bias", hoverinfo="skip")

    def _contest(self) -> Iterator[go.Scatter]:
        yield from self._candidates(self.data["reachable"], legend=self.by_table)

    def _candidates(self, candidates: np.ndarray, legend: bool) -> Iterator[go.Scatter]:
        """Yield the scores of the candidates: squares for selected experts, dots for the rest.

        They are biased scores, or affinities where no score decides.
        """
        colors = self.colors[candidates & self.chosen]
        by_choice = {
            "chosen": (self.chosen, {"symbol": "square", "size": self.size, "color": colors}),
            "not chosen": (~self.chosen, {"symbol": "circle", "size": 6, "color": self.theme.muted}),
        }
        cells = self._cells(self.data["affinity"], self.data["bias"], self.data["biased"])
        observed = f"affinity %{{customdata[2]:.4~g}}, bias %{{customdata[3]:.4~g}} ({self.origin})"
        hover = self._hover(f"{observed}<br>biased score %{{customdata[4]:.4~g}} (derived)<br>%{{text}}")
        if self.by_table:
            hover = self._hover(f"affinity %{{customdata[2]:.4~g}} ({self.origin})<br>%{{text}}")
        scores = self.data["affinity" if self.by_table else "biased"]
        for name, (mask, marker) in by_choice.items():
            at = candidates & mask
            yield go.Scatter(
                x=self.x[at], y=scores[at], mode="markers", marker=marker, name=name, showlegend=legend,
                customdata=cells[at], hovertemplate=hover, text=self._text[at],
            )  # fmt: skip

    def _group_scores(self) -> Iterator[go.Bar]:
        """Yield a horizontal line per group at the group's score: thick if the group was kept, else thin."""
        scores, kept = self.groups["score"].values, self.groups["kept"].values
        per = len(self.x) // len(kept)
        low, high = self.group_range
        thickness, middle = np.where(kept, 0.09, 0.03) * (high - low), self.x.reshape(-1, per).mean(-1)
        hues = [group_hue(group) if is_kept else self.theme.muted for group, is_kept in enumerate(kept)]
        texts = [
            f"group {group}<br>score {score:.4g} ({self.origin})<br>{'kept' if is_kept else 'not kept'}"
            for group, (score, is_kept) in enumerate(zip(scores.tolist(), kept.tolist(), strict=True))
        ]
        yield go.Bar(
            x=middle, y=thickness, base=scores - thickness / 2, width=per - 0.15, showlegend=False,
            marker={"color": hues, "line": {"width": 0}}, hovertext=texts, hovertemplate="%{hovertext}<extra></extra>",
        )  # fmt: skip

    @property
    def _text(self) -> np.ndarray:
        return np.where(self.chosen, "chosen", np.where(self.data["reachable"], "not chosen", "its group was not kept"))

    def _cells(self, *values: np.ndarray) -> np.ndarray:
        return np.column_stack([np.full(len(self.x), self.layer), np.arange(len(self.x)), *values]).astype(np.float32)

    def _hover(self, text: str) -> str:
        return f"L%{{customdata[0]}}E%{{customdata[1]}}<br>{text}<extra></extra>"


def _crosshair(drawing: _Drawing, focus: int | None) -> list[dict[str, Any]]:
    """Return a thin line through all panels at the expert in focus, as a Plotly shape; an empty list without focus."""
    if focus is None:
        return []
    x, line = float(drawing.x[focus]), {"color": drawing.theme.muted, "width": 1, "dash": "dot"}
    return [{"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": line}]


def _axis(row: int) -> str:
    """Return Plotly's name of the y axis of panel `row`, counted from 1."""
    return "y" if row == 1 else f"y{row}"
