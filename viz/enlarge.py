"""Figures for larger text: every length in pixels grows by one factor, and the width follows the window."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

# Names of properties that hold pixels wherever they stand below a trace or the layout.
_LENGTHS = {
    *("size", "minsize", "width", "height", "thickness", "ticklen", "xshift", "yshift", "ax", "ay", "standoff"),
    *("borderpad", "borderwidth", "arrowwidth", "tracegroupgap", "itemwidth", "outlinewidth", "gridwidth"),
    *("linewidth", "zerolinewidth", "tickwidth", "xgap", "ygap"),
}
_SIDES = {"l", "r", "t", "b", "pad"}  # lengths within a margin or padding only
_OF_DATA = {"width", "size", "xbins", "ybins"}  # at the top of a trace: in units of its data
_FONT_SIZE = re.compile(r"(?<=font-size:)\d+(?=px)")


def enlarge(figure: go.Figure, factor: float) -> go.Figure:
    """Return a copy of a figure with its height, type, marks, lines and margins `factor` times as large.

    Args:
        figure: a figure; it stays as it is, because sessions share figures.
        factor: 1 returns the figure itself.
    """
    if factor == 1:
        return figure
    figure = go.Figure(figure)
    trace: Any  # values of any Plotly type
    for trace in figure.data:
        parts = {name: value for name, value in trace.to_plotly_json().items() if name not in _OF_DATA}
        trace.update(_changed(parts, factor))
    layout = figure.layout.to_plotly_json()
    layout.pop("template", None)
    figure.update_layout(_changed(layout, factor))
    return figure


def _changed(parts: Mapping[str, Any], factor: float, within: str = "") -> dict[str, Any]:
    """Return the properties of a part of a figure that change, with their new values.

    Args:
        parts: the properties by name.
        factor: factor of every length.
        within: name of the part.
    """
    values = {name: _new(name, value, factor, within) for name, value in parts.items()}
    return {name: value for name, value in values.items() if value is not None}


def _new(name: str, value: Any, factor: float, within: str) -> Any:
    """Return the new value of a property; None if it stays."""
    if isinstance(value, Mapping):
        return _changed(value, factor, name) or None
    if name in _LENGTHS or (name in _SIDES and within in ("margin", "pad")):
        return _times(value, factor)
    if isinstance(value, str):
        new = _text(value, factor)
        return None if new == value else new
    if isinstance(value, Sequence) and any(isinstance(entry, Mapping) for entry in value):
        return [_changed(entry, factor, name) for entry in value]
    if isinstance(value, Sequence | np.ndarray) and any(isinstance(entry, str) for entry in value):
        new = [_text(entry, factor) if isinstance(entry, str) else entry for entry in value]
        return None if new == list(value) else new
    return None


def _text(value: str, factor: float) -> str:
    """Return a text with the sizes of type that its markup states, in pixels, `factor` times as large."""
    return _FONT_SIZE.sub(lambda size: f"{float(size.group()) * factor:g}", value)


def _times(value: Any, factor: float) -> Any:
    """Return a length, or an array of lengths, times the factor; None if the value is neither."""
    if isinstance(value, int | float):
        return value * factor
    return np.asarray(value, float) * factor if isinstance(value, Sequence | np.ndarray) else None
