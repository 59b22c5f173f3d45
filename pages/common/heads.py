"""The attention heads that a page can show: recorded heads, or all if an installed model has the trace's weights."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import streamlit as st
import xarray as xr

from model.run.request import RequestError
from model.trace import sparse
from model.trace.imports import origin as imported
from model.trace.trace import Trace
from pages.common import guards, limits, models, text
from pages.common.runs import Run
from viz.thumbnails import head_numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.run.engine import Engine
    from pages.common.models import AnyEngine


def require(run: Run | None) -> Trace:
    """Return the run's trace if heads were recorded or can be computed; otherwise show why not and end the page."""
    trace = guards.require(run.trace if run else None)
    if not trace.has("attention"):
        if trace.router is not None:
            guards.stop_with(
                "This run holds no attention: its text was too long to record all heads, or no layer of its model has "
                "attention weights. Linear attention and state-space layers have none."
            )
        if not trace.has("layer_input"):
            guards.require(trace, "attention")
        try:
            engine_for(trace)
        except ValueError as error:
            guards.stop_with(
                f"This trace holds no attention, only the layers' inputs to compute it from. {text.message(error)}"
            )
    return trace


def engine_for(trace: Trace) -> "Engine":
    """Return the model whose weights made the trace (see `maker`), if it can compute the trace's attention.

    Raises:
        RequestError: the trace lacks the layers' inputs or the indexer's selection, the text is too long, or no
            installed model has these weights.
    """
    if not trace.has("layer_input"):
        raise RequestError("The layers' inputs were not recorded; record them with `--capture inputs`.")
    if trace.num_tokens > limits.HEAD_TOKENS:
        raise RequestError(f"Attention is not computed here for texts of more than {limits.HEAD_TOKENS:,} tokens.")
    _require_selection(trace)
    engine = maker(trace)
    if engine is None:
        raise RequestError(
            f"The model that made this trace ({trace.model.get('name') or 'not named'}) is not available here with the "
            "same weights; other weights give other attention."
        )
    if not engine.abilities.heads_later:
        raise RequestError(text.sentence(engine.abilities.missing["heads_later"]))
    return cast("Engine", engine)


def maker(trace: Trace) -> "AnyEngine | None":
    """Return the model whose weights made the trace (the model it names, or the chosen model); None if neither did."""
    return _first_with_weights_of(trace, _candidates(trace), models.engines())


def _candidates(trace: Trace) -> list[Path]:
    available = models.available()
    names = dict.fromkeys((trace.model.get("name"), models.chosen() if available else None))
    return [available[name] for name in names if name is not None and name in available]


def _first_with_weights_of(trace: Trace, folders: list[Path], loaded: models.Engines) -> "AnyEngine | None":
    from model.run.head_vectors import has_weights_of

    return next((engine for engine in map(loaded.get, folders) if has_weights_of(engine, trace)), None)


def finder(trace: Trace) -> "Callable[[], AnyEngine]":
    """Return a function that does the work of `maker` and may be called in another thread.

    The function raises a RequestError if no installed model has these weights; the message says what to do.
    """
    folders, loaded = _candidates(trace), models.engines()

    def find() -> "AnyEngine":
        engine = _first_with_weights_of(trace, folders, loaded)
        if engine is None:
            name = trace.model.get("name") or "a model without a name"
            raise RequestError(
                f"the trace was made by {name}, which is not available here with the same weights; choose its model, "
                "or generate the text again on the Explore page"
            )
        return engine

    return find


def _require_selection(trace: Trace) -> None:
    top_k = trace.config.get("index_topk")
    if top_k and trace.num_tokens > top_k and not trace.has("indexer_kept"):
        raise RequestError("The model reads only selected keys; record the selection with `--capture indexer`.")


def is_recorded(trace: Trace, layer: int, head: int) -> bool:
    """Return whether the head was recorded with the run."""
    return layer in labels(trace, "attention_layer") and head in recorded_heads(trace)


def layers(trace: Trace) -> list[int]:
    """Return the model layer numbers of the layers with a head that can be shown."""
    return all_of(trace, "layer") if _completable(trace) else labels(trace, "attention_layer")


def numbers(trace: Trace, layer: int) -> list[int]:
    """Return the numbers of the heads of a layer that can be shown."""
    if layer in labels(trace, "attention_layer") and not _completable(trace):
        return recorded_heads(trace)
    return all_of(trace, "head")


def is_complete(trace: Trace) -> bool:
    """Return whether every head of every layer was recorded."""
    recorded = labels(trace, "attention_layer"), recorded_heads(trace)
    return recorded == (all_of(trace, "layer"), all_of(trace, "head"))


def origin(trace: Trace, layer: int, head: int) -> str:
    """Return the origin of a head's weights: measured or imported if they were recorded, else derived."""
    return imported.kind(trace) if is_recorded(trace, layer, head) else "derived"


def trace_of(run: Run) -> Trace:
    """Return the trace of a run, which must have one."""
    assert run.trace is not None
    return run.trace


def recorded(trace: Trace, layer: int, heads: list[int]) -> xr.DataArray:
    """Return the attention weights of recorded heads of a layer, [head, query, key]."""
    known = trace.data["attention"]
    return known.assign_coords(head=head_numbers(known)).sel(attention_layer=layer, head=heads, drop=True)


def _completable(trace: Trace) -> bool:
    """Return whether missing heads can be computed."""
    if is_complete(trace):
        return False
    try:
        engine_for(trace)
    except ValueError:
        return False
    return True


def all_of(trace: Trace, dim: str) -> list[int]:
    """Return the numbers of all layers or heads; the recorded ones if layers may differ, or no number is stated."""
    stated = trace.config.get({"layer": "num_hidden_layers", "head": "num_attention_heads"}[dim])
    if isinstance(stated, int) and trace.router is None:
        return list(range(stated))
    return labels(trace, "attention_layer") if dim == "layer" else recorded_heads(trace)


def labels(trace: Trace, dim: str) -> list[int]:
    """Return the labels of an axis of the recorded attention; an empty list if no attention was recorded."""
    return trace.data[dim].values.tolist() if dim in trace.data.coords else []


def recorded_heads(trace: Trace) -> list[int]:
    """Return the numbers of the recorded heads, which are the same in every recorded layer."""
    return head_numbers(trace.data["attention"]).tolist() if trace.has("attention") else []


# --- dense attention of a sparse model -------------------------------------------------------------------------------


def dense(run: Run, layer: int) -> xr.DataArray:
    """Return a layer's attention without the indexer's selection, [head, query, key], from its recorded input.

    Raises:
        RequestError: the attention cannot be computed; the message says why.
    """
    trace = trace_of(run)
    return _dense(run.number, layer, engine_for(trace), trace)


@st.cache_resource(show_spinner="Computing attention without a selection", max_entries=8)
def _dense(number: int, layer: int, _engine: "Engine", _trace: Trace) -> xr.DataArray:
    from model.run.attention import head_attention

    return head_attention(_engine, _trace, layer)


def recall_by_head(run: Run, layer: int) -> xr.DataArray | None:
    """Return the recall of the recorded selection, [head], by `sparse.recall_by_head`; None if every key was kept."""
    kept = trace_of(run).data["indexer_kept"].sel(indexer_layer=layer, drop=True)
    return sparse.recall_by_head(dense(run, layer), kept) if len(sparse.choosing(kept)) else None


def indexer_recall(run: Run | None, layer: int) -> float | None:
    """Return the mean recall of the recorded selection, by `sparse.mean_recall`; None if it cannot be computed."""
    trace = run.trace if run else None
    if run is None or trace is None or not (trace.has("indexer_kept") and trace.has("layer_input")):
        return None
    if layer not in trace.data["indexer_layer"].values:
        return None
    kept = trace.data["indexer_kept"].sel(indexer_layer=layer, drop=True)
    try:
        return sparse.mean_recall(dense(run, layer), kept) if len(sparse.choosing(kept)) else None
    except RequestError:
        return None
