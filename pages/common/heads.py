"""Heads of the trace on show: recorded ones as they are, others recomputed where the same weights are at hand.

What is computed is kept by the run's number, which differs between all that is ever shown.
"""

import dataclasses
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import streamlit as st
import xarray as xr

from model.run.request import RequestError
from model.trace import attention
from model.trace.trace import Trace
from pages.common import guards, limits, models
from pages.common.runs import Run
from viz.attention import THUMBNAIL_CELLS, head_numbers, pooled

if TYPE_CHECKING:
    from model.run.engine import Engine

AT_ONCE = 4_000_000  # weights of a layer that are worked on together


@dataclasses.dataclass(frozen=True)
class Overview:
    """A layer's heads at a glance."""

    small: xr.DataArray  # [head, query, key], in blocks
    figures: xr.Dataset  # of `attention.head_figures`, [head, query]


# --- which heads there are -------------------------------------------------------------------------------------------


def require(run: Run | None) -> Trace:
    """The trace, when it holds heads or they can be computed here; otherwise say why not, and end the page."""
    trace = guards.require(run.trace if run else None)
    if not trace.has("attention"):
        if not trace.has("layer_input"):
            guards.require(trace, "attention")
        try:
            engine_for(trace)
        except ValueError as problem:
            _stop_with(f"This trace holds no attention, only what it can be computed from. {problem}")
    return trace


def engine_for(trace: Trace) -> "Engine":
    """The loaded model whose weights made the trace: one of the same name, else the chosen one.

    Raises:
        RequestError: neither has these weights, or the trace lacks what heads are computed from; the message is a
            sentence for the visitor.
    """
    from model.run.attention import has_weights_of

    if not trace.has("layer_input"):
        raise RequestError("The layers' inputs were not recorded; record them with `--capture inputs`.")
    if trace.num_tokens > limits.HEAD_TOKENS:
        raise RequestError(f"Heads of more than {limits.HEAD_TOKENS:,} tokens are not computed here.")
    name, available = trace.model.get("name"), models.available()
    for candidate in dict.fromkeys((name, models.chosen() if available else None)):
        if candidate in available and has_weights_of(engine := models.engines().get(available[candidate]), trace):
            return engine
    raise RequestError(
        f"The model it was made with ({name or 'not named'}) is not at hand here with the same weights, and other "
        "weights would give another picture."
    )


def is_recorded(trace: Trace, layer: int, head: int) -> bool:
    """Whether the head was recorded with the run."""
    return layer in _labels(trace, "attention_layer") and head in _recorded_heads(trace)


def layers(trace: Trace) -> list[int]:
    """Layers that have a head to show."""
    return _all(trace, "layer") if _completable(trace) else _labels(trace, "attention_layer")


def numbers(trace: Trace, layer: int) -> list[int]:
    """Heads of the layer that can be shown."""
    if layer in _labels(trace, "attention_layer") and not _completable(trace):
        return _recorded_heads(trace)
    return _all(trace, "head")


def is_complete(trace: Trace) -> bool:
    """Whether every head of every layer was recorded."""
    recorded = _labels(trace, "attention_layer"), _recorded_heads(trace)
    return recorded == (_all(trace, "layer"), _all(trace, "head"))


def origin(trace: Trace, layer: int, head: int) -> str:
    """What the head's weights are: measured, or imported, when they were recorded; derived when recomputed."""
    return str(trace.origin.get("kind", "measured")) if is_recorded(trace, layer, head) else "derived"


def _completable(trace: Trace) -> bool:
    """Whether heads that are missing can be computed."""
    if is_complete(trace):
        return False
    try:
        engine_for(trace)
    except ValueError:
        return False
    return True


def _all(trace: Trace, dim: str) -> list[int]:
    """All layers or heads of the model; those recorded where it does not say how many it has."""
    config = trace.model.get("config") or {}
    stated = config.get({"layer": "num_hidden_layers", "head": "num_attention_heads"}[dim])
    if isinstance(stated, int):
        return list(range(stated))
    return _labels(trace, "attention_layer") if dim == "layer" else _recorded_heads(trace)


def _labels(trace: Trace, dim: str) -> list[int]:
    return trace.data[dim].values.tolist() if dim in trace.data.coords else []


def _recorded_heads(trace: Trace) -> list[int]:
    return head_numbers(trace.data["attention"]).tolist() if trace.has("attention") else []


def _stop_with(message: str) -> NoReturn:
    st.info(message, icon=":material/info:")
    st.stop()


# --- what they are ---------------------------------------------------------------------------------------------------


def weights(run: Run, layer: int, head: int) -> xr.DataArray:
    """One head, [query, key]."""
    trace = trace_of(run)
    if is_recorded(trace, layer, head):
        return _recorded(trace, layer, [head]).isel(head=0)
    return _computed(run.number, layer, head, engine_for(trace), trace).isel(head=0)


def overview(run: Run, layer: int) -> Overview:
    """A layer's heads at a glance."""
    trace = trace_of(run)
    chosen = numbers(trace, layer)
    whole = all(is_recorded(trace, layer, head) for head in chosen)
    return _overview(run.number, layer, tuple(chosen), trace, None if whole else engine_for(trace))


def all_figures(run: Run) -> xr.Dataset:
    """Figures of all heads of the recorded layers, [attention_layer, head, query]."""
    trace = trace_of(run)
    recorded = _labels(trace, "attention_layer")
    heads = _recorded_heads(trace)
    parts = [_overview(run.number, layer, tuple(heads), trace, None).figures for layer in recorded]
    return xr.concat(parts, "attention_layer").assign_coords(attention_layer=recorded)


def rollout(run: Run, layer: int) -> xr.DataArray:
    """Rollout through the layers up to this one, [query, key].

    Raises:
        RequestError: not all heads of all layers are recorded, and they cannot be computed; or the text is too long.
    """
    trace = trace_of(run)
    if trace.num_tokens > limits.ROLLOUT_TOKENS:
        raise RequestError(f"It is computed for texts of up to {limits.ROLLOUT_TOKENS:,} tokens.")
    engine = None if is_complete(trace) else engine_for(trace)
    return _rollout(run.number, trace, engine).sel(attention_layer=layer)


def score_parts(run: Run, layer: int, head: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Content and position part of a head's score, each [query, key].

    Raises:
        RequestError: they cannot be computed; the message says why.
    """
    trace = trace_of(run)
    return _score_parts(run.number, layer, head, engine_for(trace), trace)


def trace_of(run: Run) -> Trace:
    """The trace of a run on show."""
    assert run.trace is not None
    return run.trace


def _recorded(trace: Trace, layer: int, heads: list[int]) -> xr.DataArray:
    known = trace.data["attention"]
    return known.assign_coords(head=head_numbers(known)).sel(attention_layer=layer, head=heads)


def _either(trace: Trace, engine: "Engine | None", layer: int, heads: list[int]) -> xr.DataArray:
    """Some heads of a layer, [head, query, key]: those recorded as they are, the rest computed."""
    known = [head for head in heads if is_recorded(trace, layer, head)]
    rest = [head for head in heads if head not in known]
    parts = [_recorded(trace, layer, known).drop_vars("attention_layer")] if known else []
    if rest:
        from model.run.attention import head_attention

        assert engine is not None
        parts.append(head_attention(engine, trace, layer, rest))
    return parts[0] if len(parts) == 1 else xr.concat(parts, "head").sel(head=heads)


@st.cache_resource(show_spinner="Computing the head", max_entries=8)
def _computed(number: int, layer: int, head: int, _engine: "Engine", _trace: Trace) -> xr.DataArray:
    return _either(_trace, _engine, layer, [head])


@st.cache_resource(show_spinner="Computing the layer's heads", max_entries=256)
def _overview(number: int, layer: int, heads: tuple[int, ...], _trace: Trace, _engine: "Engine | None") -> Overview:
    together = max(1, AT_ONCE // _trace.num_tokens**2)
    small, figures = [], []
    for first in range(0, len(heads), together):
        part = _either(_trace, _engine, layer, list(heads[first : first + together]))
        small.append(pooled(part.values, THUMBNAIL_CELLS)[0])
        figures.append(attention.head_figures(part).reset_coords(drop=True))
    blocks = xr.DataArray(np.concatenate(small), dims=("head", "query", "key"), coords={"head": list(heads)})
    return Overview(blocks, xr.concat(figures, "head"))


@st.cache_resource(show_spinner="Rolling out", max_entries=4)
def _rollout(number: int, _trace: Trace, _engine: "Engine | None") -> xr.DataArray:
    heads, chosen = _all(_trace, "head"), _all(_trace, "layer")
    means = [_either(_trace, _engine, layer, heads).mean("head").drop_vars("attention_layer", errors="ignore")
             for layer in chosen]  # fmt: skip
    stacked = xr.concat(means, "attention_layer").assign_coords(attention_layer=chosen)
    return attention.rollout(stacked.expand_dims("head", 1)).astype(np.float32)


@st.cache_resource(show_spinner="Computing the parts", max_entries=4)
def _score_parts(
    number: int, layer: int, head: int, _engine: "Engine", _trace: Trace
) -> tuple[xr.DataArray, xr.DataArray]:
    from model.run.attention import score_parts as parts

    return parts(_engine, _trace, layer, head)
