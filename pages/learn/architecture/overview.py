"""The overview above the tabs of the Architecture page: the model in one line, its figure, and one part in detail."""

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from model.checkpoint import costs
from model.trace.trace import Trace
from pages.common import controls, heads, session
from pages.common.text import plain
from pages.learn.architecture import drawing, tables
from pages.learn.architecture.catalogue import ShownModel, made
from pages.learn.architecture.drawing import count, layers
from viz.architecture import architecture

if TYPE_CHECKING:
    from model.checkpoint.parts import Part, Parts

TEXT = Path(__file__).parent / "parts.toml"
SUMMARY_HELP = (
    "A parameter is one trained number. A token passes through the active ones only: of the experts, those that its "
    "router chose. The embedding counts with all its rows, so the number may be larger than in a report. The cache "
    "holds what attention needs of earlier tokens. Derived from the configuration."
)


@functools.cache
def _texts() -> dict[str, Any]:
    return tomllib.loads(TEXT.read_text(encoding="utf-8"))


def text_of(part: "Part") -> dict[str, Any]:
    """Return the texts of a part: title, explanation, formulas and source."""
    return _texts()[part.text]


def summary(model: ShownModel) -> str:
    """Return one line on the model: parameters, active parameters, and bytes of KV cache per token."""
    cost = costs.model_cost(model.parts, 0, "bfloat16")
    line = (
        f"**{plain(model.name)}**: {count(cost.parameters)} parameters ({cost.parameters:,}), of which "
        f"{count(cost.active)} serve one token ({cost.active / cost.parameters:.1%}); {cost.cache_bytes_kept:,} bytes "
        f"of cache per token{_window(model.parts)} in bfloat16."
    )
    return line if model.folder else f"{line} Only its published configuration is used; the model cannot be run here."


def _window(parts: "Parts") -> str:
    """Return the size of the full sliding windows in the cache, as the end of a sentence; empty without windows."""
    fixed = costs.window_bytes(parts)
    return f", and at most {fixed:,} bytes for the sliding windows," if fixed else ""


# --- the figure ------------------------------------------------------------------------------------------------------


def figure(model: ShownModel, part: "Part", trace: Trace | None, layer: int | None) -> None:
    """Show the main figure; if this model made the run on show, the run's numbers are painted on it."""
    own = trace if made(model, trace) else None
    recall = heads.indexer_recall(session.shown(), layer) if own is not None and layer is not None else None
    paint = None if own is None else drawing.paint(own, layer, recall)
    drawn = drawing.drawing(model.parts)
    chart = architecture(drawn, session.theme(), part.key, paint, st.session_state.get("expert"))
    table = tables.everything(model.parts, 0, "bfloat16")
    how_to_read = _how_to_read(own, layer, recall, drawn.streams)
    controls.chart(chart, "architecture", table, how_to_read, take_click)


def _how_to_read(trace: Trace | None, layer: int | None, recall: float | None, streams: int) -> str:
    stream = (
        "The line on the left is the residual stream, from the bottom up: every part reads a copy of it and adds its "
        "output." if streams == 1
        else f"The {streams} lines on the left are the residual streams, from the bottom up: every part reads a "
        "weighted sum of them, and the mix above it blends the streams and adds the part's output to each."
    )  # fmt: skip
    basics = (
        f"{stream} Layers with the same tensors are drawn once. A number on a part counts its parameters in one layer; "
        "a square is an expert, and the lines below the squares are the groups. Click a part to read about it."
    )
    if trace is None:
        return f"{basics} No data of a run is drawn: the run on show is of another model or engine, or there is none."
    painted = (
        "" if layer is None
        else f" A square's colour is its load in L{layer} over a fair share: orange is more, blue is less. A number "
        "below the squares is the load of a group over its fair share."
    )  # fmt: skip
    if recall is not None:
        painted += (
            f" The bar in the indexer shows that the keys it kept hold {recall:.1%} of the attention that the heads "
            "would give if they read every key."
        )
    over = "" if streams == 1 else f" of all {streams} residual streams together"
    return (
        f"{basics}{painted} The curve on the left is the residual norm{over} after each layer, the median over tokens. "
        f"Click a point of it to choose a layer. n = {trace.num_tokens:,} tokens, derived."
    )


def take_click() -> None:
    """Choose the clicked part, and the layer and expert of the clicked point. A callback."""
    points = (st.session_state.get("architecture") or {}).get("selection", {}).get("points", [])
    clicked = points[0].get("customdata") if points else None
    if clicked:
        key, layer, expert = clicked.values() if isinstance(clicked, Mapping) else clicked
        st.session_state["part"] = key
        numbers = {"layer": int(layer), "expert": int(expert)}
        controls.choose(**{name: number for name, number in numbers.items() if number >= 0})


# --- one part --------------------------------------------------------------------------------------------------------


def details(part: "Part", context: int, dtype: str) -> None:
    """Show one part: its explanation, formulas, sizes, cost, tensors and source."""
    text = text_of(part)
    where = f" :gray[{layers(part.layers)}]" if part.layers else ""
    st.markdown(f"**{text['title']}**{where}  \n{text['says']}{_reading(part)}")
    for formula in text["formulas"]:
        st.latex(rf"\small {formula}")
    table = tables.sizes(part, context, dtype)
    _table(table)
    prefix, tensors = tables.tensors(part)
    st.caption(f"Tensors `{prefix}…`" if part.parameters else "Has no tensor of its own; it uses the embedding's.")
    _table(tensors)
    st.caption(f"{text['source']}. Parameters and shapes from the configuration, the rest derived.")


def _reading(part: "Part") -> str:
    """Return a sentence on the earlier tokens that an attention or an indexer reads; empty if it reads all of them."""
    window = next((read for read in part.reads if read.is_window), None)
    blocks = next((read for read in part.reads if read.tokens > 1), None)
    if window is None and blocks is None:
        is_sparse = part.kind == "attention" and any(read.most is not None for read in part.reads)
        return " Here the sums run over the tokens that the indexer selected." if is_sparse else ""
    latest = [] if window is None else [f"the latest {window.most:,} tokens"]
    if blocks is not None:
        most = "one entry" if blocks.most is None else f"at most {blocks.most:,} entries, one"
        latest.append(f"{most} for each {blocks.tokens} tokens")
    reader = "the indexer" if part.kind == "indexer" else "attention"
    return f" Here {reader} reads {' and '.join(latest)}."


def _table(table: pd.DataFrame) -> None:
    """Show a small table whose cells wrap: `st.dataframe` cuts off digits where a column is narrow."""
    whole = [name for name in table.columns if table[name].dtype.kind == "i"]
    st.table(table.style.format("{:,}", whole), hide_index=True)
