"""The meaning of every colour in all figures, in a light and a dark theme.

An expert's hue shows its group, its lightness its index in the group; both are the same in every figure. Colour-blind
readers can tell the hues apart: five are Okabe and Ito's, three were chosen by simulation (`tests/colours.py`). Load
diverges around 1 (blue below, orange above). Change diverges around 0 (green below, purple above); its colours are not
those of load.
"""

import colorsys
import dataclasses
from typing import Any

import plotly.graph_objects as go

from viz.layout import Layout

# In an order that keeps similar hues apart.
GROUP_HUES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#3333CC", "#99B87A", "#668CFF", "#D55E00")
FONT_SIZE = 13
FONT_FAMILY = '"Source Sans", "Source Sans Pro", sans-serif'
MONO_FAMILY = '"Source Code", "Source Code Pro", monospace'


@dataclasses.dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a theme. Scales are hex stops from low to high; sequential ones start at the page's background."""

    name: str
    background: str
    ink: str
    muted: str
    grid: str
    shade: str  # a kept group, a chance band
    sequential: tuple[str, ...]
    load: tuple[str, ...]  # log2 of the ratio from -2 to 2
    change: tuple[str, ...]
    surprisal: tuple[str, ...]
    lightness: tuple[float, float]  # lightness of a group's first and last expert


LIGHT = Theme(
    name="light",
    background="#ffffff",
    ink="#24292f",
    muted="#5e6771",
    grid="#e4e7eb",
    shade="#eef1f4",
    sequential=("#ffffff", "#dfe8f3", "#b3cde3", "#7aa6cf", "#4378b3", "#1f4e8c", "#0b2755"),
    load=("#08519c", "#4292c6", "#9ecae1", "#d0d3d6", "#fdae6b", "#e6730f", "#8c3c04"),
    change=("#1b7837", "#7fbf7b", "#f3f3f3", "#af8dc3", "#762a83"),
    surprisal=("#ffffff", "#fdebc8", "#fbcf8a", "#f5a54b", "#d96b1f", "#9c3a10"),
    lightness=(0.30, 0.66),
)
DARK = Theme(
    name="dark",
    background="#0e1117",
    ink="#e6e9ee",
    muted="#9aa4b0",
    grid="#2a313b",
    shade="#1b212a",
    sequential=("#0e1117", "#16263b", "#1d416a", "#2a639f", "#4b8ccb", "#8ab9e6", "#dcecfb"),
    load=("#6baed6", "#3f88bd", "#2b5478", "#4a5058", "#8f5423", "#d9792b", "#fdb777"),
    change=("#5aae61", "#2f6b3c", "#1d2229", "#6d4480", "#b58bc9"),
    surprisal=("#0e1117", "#3a2812", "#6d4516", "#a9681f", "#df9538", "#ffd08a"),
    lightness=(0.44, 0.78),
)
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def group_hue(group: int) -> str:
    """Return the colour of a routing group; colours repeat after eight groups."""
    return GROUP_HUES[group % len(GROUP_HUES)]


def expert_color(expert: int, layout: Layout, theme: Theme) -> str:
    """Return an expert's colour: the hue of its group, lighter for a higher index in the group."""
    size = layout.num_experts // layout.num_groups
    group, index = divmod(expert, size)
    hue, _, saturation = _to_hls(group_hue(group))
    low, high = theme.lightness
    lightness = low + (high - low) * (index / max(1, size - 1))
    return _to_hex(colorsys.hls_to_rgb(hue, lightness, min(saturation, 0.75)))


def expert_colors(layout: Layout, theme: Theme) -> list[str]:
    """Return the colours of all experts."""
    return [expert_color(expert, layout, theme) for expert in range(layout.num_experts)]


def colorscale(stops: tuple[str, ...], companded: bool = False) -> list[list[float | str]]:
    """Return the stops as a Plotly colour scale; `companded` puts a stop at x to x², to keep small weights visible."""
    shares = (index / (len(stops) - 1) for index in range(len(stops)))
    return [[share**2 if companded else share, stop] for share, stop in zip(shares, stops, strict=True)]


def translucent(color: str, opacity: float) -> str:
    """Return a hex colour with an opacity from 0 to 1, as CSS."""
    red, green, blue = (round(255 * part) for part in _to_rgb(color))
    return f"rgba({red},{green},{blue},{opacity:.3g})"


def blend(stops: tuple[str, ...], share: float) -> str:
    """Return the colour of a scale at `share` of its length, from 0 to 1."""
    position = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    left = min(int(position), len(stops) - 2)
    ends = zip(_to_rgb(stops[left]), _to_rgb(stops[left + 1]), strict=True)
    red, green, blue = (start + (end - start) * (position - left) for start, end in ends)
    return _to_hex((red, green, blue))


def readable_on(color: str) -> str:
    """Return black or white, whichever has more contrast with a hex colour (as WCAG 2 defines contrast)."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _to_rgb(color)]
    luminance = 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
    return "#ffffff" if luminance < 0.179 else "#000000"


def palette(layout: Layout, theme: Theme) -> dict[str, object]:
    """Return the colours of the lens as plain values."""
    return {
        "experts": expert_colors(layout, theme),
        "groups": [group_hue(group) for group in range(layout.num_groups)],
        "sequential": list(theme.sequential),
        "load": list(theme.load),
        "surprisal": list(theme.surprisal),
        "background": theme.background,
        "ink": theme.ink,
        "muted": theme.muted,
        "grid": theme.grid,
    }


def style(figure: go.Figure, theme: Theme, height: int, **layout: Any) -> go.Figure:
    """Return the figure with the common look: fixed height in pixels, transparent paper, no title, readable type.

    `layout` is passed to Plotly's layout and overrides the common look. Points that a click does not select keep their
    opacity.
    """
    axis = {"gridcolor": theme.grid, "zeroline": False, "linecolor": theme.grid, "automargin": True}
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 24, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"size": FONT_SIZE, "color": theme.ink, "family": FONT_FAMILY},
        hoverlabel={"bgcolor": theme.background, "bordercolor": theme.muted, "font": {"color": theme.ink}},
        hovermode="closest",
        dragmode="zoom",
        showlegend=False,
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    trace: Any  # values of any Plotly type
    for trace in figure.data:
        if trace.type in ("scatter", "scattergl", "bar") and trace.unselected.marker.opacity is None:
            trace.unselected.marker.opacity = 1
    return figure.update_layout(**layout)


def _to_rgb(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def _to_hls(color: str) -> tuple[float, float, float]:
    return colorsys.rgb_to_hls(*_to_rgb(color))


def _to_hex(rgb: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
