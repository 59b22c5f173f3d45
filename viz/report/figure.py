"""Parts of all figures of the report: the frame with its description, the plot area, and axes.

A figure is SVG inside HTML. It uses the CSS variables of `colors.py` and the classes of `CSS`. Hover texts are `title`
elements, which need no script; data attributes hold the numbers of the marks.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from viz.axis import expert_axis, layer_axis
from viz.layout import Layout
from viz.report.markup import element, text

WIDTH = 760  # of every figure, in CSS pixels
MOST_EXPERTS = 1_024  # columns of a figure; a router with more is not drawn
CSS = """
.figure { overflow-x: auto; margin: .6rem 0; }
.figure svg { display: block; width: 100%; min-width: 640px; height: auto; }
.figure text { font: 12px var(--sans); fill: var(--ink); }
.figure text.label { font-family: var(--mono); }
.figure .quiet { fill: var(--muted); }
.figure .map { image-rendering: pixelated; }
.figure .line { stroke: var(--ink); fill: none; stroke-width: 1; }
.figure .grid { stroke: var(--grid); fill: none; stroke-width: 1; }
.figure .dashed { stroke-dasharray: 5 4; }
.figure .dotted { stroke-dasharray: 1 3; }
.figure .band { fill: var(--muted); fill-opacity: .18; }
.figure .kept { fill: var(--muted); fill-opacity: .16; stroke: var(--muted); stroke-opacity: .5; }
.figure .lost { fill: none; stroke: var(--ink); stroke-width: 1.4; }
"""


class Plot(NamedTuple):
    """The plot area of a figure in pixels, and its numbers of columns and rows."""

    left: float
    top: float
    width: float
    height: float
    columns: float
    rows: float

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a cell."""
        return self.width / self.columns, self.height / self.rows

    def x(self, column: float) -> float:
        """Return the middle of a column."""
        return self.left + (column + 0.5) * self.cell[0]

    def y(self, row: float) -> float:
        """Return the middle of a row; row 0 is at the top."""
        return self.top + (row + 0.5) * self.cell[1]

    def box(
        self, column: float, row: float, across: float = 1, down: float = 1, hover: str = "", **attributes: object
    ) -> str:
        """Return a rectangle whose middle is that of a cell; its size is in cells."""
        wide, high = self.cell
        frame = {"x": self.x(column) - across * wide / 2, "y": self.y(row) - down * high / 2}
        return rect(**frame, width=across * wide, height=down * high, hover=hover, **attributes)


def figure(kind: str, title: str, description: str, height: float, parts: Iterable[str], **data: object) -> str:
    """Return a figure as HTML, `WIDTH` wide; on a narrow screen it scrolls inside itself.

    Args:
        kind: name of the figure in the report: its CSS class and id.
        title: name for screen readers.
        description: what a screen reader says of the figure.
        height: height in pixels.
        parts: SVG elements.
        **data: data attributes of the figure, without `data_`.
    """
    about = element("title", text(title)) + element("desc", text(description), id=f"{kind}-about")
    svg = element(
        "svg", about, *parts, viewBox=f"0 0 {WIDTH} {height:g}", width=WIDTH, height=float(height), role="img",
        aria_label=title, aria_describedby=f"{kind}-about", **{f"data_{name}": value for name, value in data.items()},
    )  # fmt: skip
    return element("div", svg, class_=f"figure {kind}", id=f"figure-{kind}", tabindex=0, role="group", aria_label=title)


def rect(hover: str = "", **attributes: object) -> str:
    """Return a rectangle with a hover text."""
    return element("rect", element("title", text(hover)) if hover else "", **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str = "line") -> str:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def words(x: float, y: float, content: str, anchor: str = "start", class_: str | None = None, **more: object) -> str:
    """Return one line of text; `anchor` is `start`, `middle` or `end`."""
    return element("text", text(content), x=x, y=y, text_anchor=anchor, class_=class_, **more)


def columns_of(positions: np.ndarray) -> int:
    """Return the number of columns of an axis of experts, with the gaps between groups."""
    return int(positions[-1]) + 1


def expert_ticks(layout: Layout, plot: Plot, title: str = "expert") -> str:
    """Return the labels below the plot: the first expert of each group, or about eight experts without groups."""
    axis, below = expert_axis(layout), plot.top + plot.height
    ticks = list(zip(axis["tickvals"].tolist(), axis["ticktext"].tolist(), strict=True))
    shown = ticks[:: -(-len(ticks) // 16)]
    labels = [words(plot.x(at), below + 15, label, "middle", "quiet") for at, label in shown]
    return "".join(labels) + words(plot.left + plot.width / 2, below + 31, title, "middle", "quiet")


def layer_ticks(layers: np.ndarray, plot: Plot) -> str:
    """Return the labels of rows of layers, the first layer at the bottom."""
    axis = layer_axis(layers)
    pairs = zip(axis["tickvals"].tolist(), axis["ticktext"].tolist(), strict=True)
    return "".join(words(plot.left - 6, plot.y(len(layers) - 1 - at) + 4, label, "end", "quiet") for at, label in pairs)


def number_ticks(first: int, number: int, at: Sequence[float], most: int = 11) -> list[tuple[float, str]]:
    """Return (position, label) of round numbers among `number` consecutive ones from `first` on.

    Args:
        first: the first number.
        number: how many there are.
        at: positions in pixels of the first and of the last number.
        most: largest number of labels.
    """
    step = next(
        step for power in range(9) for step in (10**power, 2 * 10**power, 5 * 10**power) if step * most >= number
    )
    shown = range(-(-first // step) * step, first + number, step)
    scale = (at[1] - at[0]) / max(1, number - 1)
    return [(at[0] + (value - first) * scale, f"{value:,}") for value in shown]
