"""Attention weights of the heads of a run: recorded, or computed for the part that the page shows.

Computed values are cached by a number of the trace, so that all sessions that show it share them.
"""

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
import xarray as xr

from model.run.request import RequestError
from model.trace import attention
from model.trace.cells import Window, whole
from model.trace.cells import cells as cells_of
from model.trace.derived import derived
from model.trace.trace import Trace
from pages.common import heads, limits
from pages.common.runs import Run
from viz.thumbnails import THUMBNAIL_CELLS

if TYPE_CHECKING:
    from model.run.attention import LayerAttention
    from model.run.engine import Engine

AT_ONCE = 4_000_000  # attention weights that are reduced to statistics at a time


@dataclasses.dataclass(frozen=True)
class Overview:
    """Small maps and statistics of the heads of a layer."""

    small: xr.DataArray  # [head, query, key], the largest weight of each cell
    figures: xr.Dataset  # statistics of `attention.head_figures`, each [head, query]


@st.cache_resource(show_spinner=False)
def _numbers() -> "itertools.count[int]":
    return itertools.count()


def _number(trace: Trace) -> int:
    """Return a number that no other trace of the server has."""
    return derived(trace, "number", lambda: next(_numbers()))


def cells(run: Run, layer: int, head: int, window: Window) -> xr.Dataset:
    """Return the part `window` of a head's map in cells (rectangles of pairs, see `model/trace/cells.py`)."""
    trace = heads.trace_of(run)
    engine = None if heads.is_recorded(trace, layer, head) else heads.engine_for(trace)
    return _cells(_number(trace), layer, head, window, trace, engine)


def row(run: Run, layer: int, head: int, token: int) -> xr.DataArray:
    """Return a token's attention weights in one head, [key], for the keys up to the token itself."""
    trace = heads.trace_of(run)
    if heads.is_recorded(trace, layer, head):
        return heads.recorded(trace, layer, [head]).isel(head=0, query=token, key=slice(token + 1))
    return _layer(_number(trace), layer, trace, heads.engine_for(trace)).row(head, token)


def overview(run: Run, layer: int) -> Overview:
    """Return small maps and statistics of the heads of a layer."""
    trace = heads.trace_of(run)
    chosen = heads.numbers(trace, layer)
    whole = all(heads.is_recorded(trace, layer, head) for head in chosen)
    return _overview(_number(trace), layer, tuple(chosen), trace, None if whole else heads.engine_for(trace))


def summary(run: Run, layer: int, queries: np.ndarray) -> xr.Dataset:
    """Return statistics of the heads of a layer over the query tokens with these numbers, see `over_queries`."""
    trace = heads.trace_of(run)
    key = ("heads", layer, queries.tobytes())
    return derived(trace, key, lambda: attention.over_queries(overview(run, layer).figures, queries))


def all_figures(run: Run) -> xr.Dataset:
    """Return statistics of all recorded heads, each [attention_layer, head, query]."""
    trace = heads.trace_of(run)
    recorded = heads.labels(trace, "attention_layer")
    known = heads.recorded_heads(trace)
    parts = [_overview(_number(trace), layer, tuple(known), trace, None).figures for layer in recorded]
    return xr.concat(parts, "attention_layer").assign_coords(attention_layer=recorded)


def rollout(run: Run, layer: int) -> xr.DataArray:
    """Return the attention rollout through all layers up to `layer`, [query, key].

    Raises:
        RequestError: the text is too long, or a head of some layer was not recorded and cannot be computed.
    """
    trace = heads.trace_of(run)
    if trace.num_tokens > limits.ROLLOUT_TOKENS:
        raise RequestError(f"Rollout is computed for texts of up to {limits.ROLLOUT_TOKENS:,} tokens.")
    engine = None if heads.is_complete(trace) else heads.engine_for(trace)
    return _rollout(_number(trace), trace, engine).sel(attention_layer=layer)


def part_cells(run: Run, layer: int, head: int, window: Window) -> tuple[xr.Dataset, xr.Dataset]:
    """Return two maps in cells, of a head's content scores and of its position scores, each cut to `window`.

    Raises:
        RequestError: the scores cannot be computed; the message says why.
    """
    trace = heads.trace_of(run)
    return _part_cells(_number(trace), layer, head, window, trace, heads.engine_for(trace))


def part_rows(run: Run, layer: int, head: int, token: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the content part and the position part of a token's scores, each [key], for the keys up to the token."""
    trace = heads.trace_of(run)
    content, position = _layer(_number(trace), layer, trace, heads.engine_for(trace)).part_rows(head, token)
    return content, position


def parts_by_distance(run: Run, layer: int) -> xr.DataArray:
    """Return the content part and the position part of scores, averaged by distance, [part, head, distance].

    Raises:
        RequestError: the scores cannot be computed; the message says why.
    """
    trace = heads.trace_of(run)
    return _parts_by_distance(_number(trace), layer, trace, heads.engine_for(trace))


@st.cache_resource(show_spinner="Computing the layer's queries and keys", max_entries=8)
def _layer(number: int, layer: int, _trace: Trace, _engine: "Engine | None") -> "LayerAttention":
    from model.run.attention import LayerAttention

    assert _engine is not None
    return LayerAttention(_engine, _trace, layer)


@st.cache_resource(show_spinner="Computing the head", max_entries=16)
def _cells(number: int, layer: int, head: int, window: Window, _trace: Trace, _engine: "Engine | None") -> xr.Dataset:
    if _engine is None:
        return cells_of(heads.recorded(_trace, layer, [head]).isel(head=0, drop=True), window)
    return _layer(number, layer, _trace, _engine).cells(head, window)


@st.cache_resource(show_spinner="Computing the layer's heads", max_entries=256)
def _overview(number: int, layer: int, chosen: tuple[int, ...], _trace: Trace, _engine: "Engine | None") -> Overview:
    known = [head for head in chosen if heads.is_recorded(_trace, layer, head)]
    rest = [head for head in chosen if head not in known]
    parts: list[tuple[xr.DataArray, xr.Dataset]] = []
    together = max(1, AT_ONCE // _trace.num_tokens**2)
    for first in range(0, len(known), together):
        part = heads.recorded(_trace, layer, known[first : first + together])
        small = cells_of(part, whole(_trace.num_tokens), THUMBNAIL_CELLS)["largest"]
        parts.append((small, attention.head_figures(part, _trace.config.get("index_topk"))))
    if rest:
        parts.append(_layer(number, layer, _trace, _engine).overview(rest, THUMBNAIL_CELLS))
    small, figures = xr.concat([part[0] for part in parts], "head"), xr.concat([part[1] for part in parts], "head")
    return Overview(small.sel(head=list(chosen)), figures.sel(head=list(chosen)))


@st.cache_resource(show_spinner="Rolling out", max_entries=4)
def _rollout(number: int, _trace: Trace, _engine: "Engine | None") -> xr.DataArray:
    every, chosen = heads.all_of(_trace, "head"), heads.all_of(_trace, "layer")
    means = []
    for layer in chosen:
        if all(heads.is_recorded(_trace, layer, head) for head in every):
            means.append(attention.mean_of_heads(heads.recorded(_trace, layer, every)))
        else:
            means.append(_layer(number, layer, _trace, _engine).mean_of_heads())
    stacked = xr.concat(means, "attention_layer").assign_coords(attention_layer=chosen)
    return attention.rollout(stacked.expand_dims("head", 1)).astype("float32")


@st.cache_resource(show_spinner="Computing the parts", max_entries=8)
def _part_cells(
    number: int, layer: int, head: int, window: Window, _trace: Trace, _engine: "Engine"
) -> tuple[xr.Dataset, xr.Dataset]:
    return _layer(number, layer, _trace, _engine).part_cells(head, window)


@st.cache_resource(show_spinner="Computing both parts of all heads' scores", max_entries=16)
def _parts_by_distance(number: int, layer: int, _trace: Trace, _engine: "Engine") -> xr.DataArray:
    return _layer(number, layer, _trace, _engine).parts_by_distance(heads.all_of(_trace, "head"))
