"""What the page on the architecture says and shows."""

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from model.trace.trace import Trace
from pages.common import controls, heads, session, tables
from pages.common.text import plain
from pages.learn.architecture import drawing
from pages.learn.architecture import tables as architecture_tables
from pages.learn.architecture.described import Described, describe, is_of
from pages.learn.architecture.drawing import count, layers
from viz.architecture import architecture
from viz.architecture_cost import cost_by_context

if TYPE_CHECKING:
    from model.checkpoint.parts import Part, Parts

TEXT = Path(__file__).parent / "parts.toml"
ALL, BESIDE = TABS = ("All parts in numbers", "V3 beside V3.2")
CONTEXTS = [2**power for power in range(7, 18)]
_RIGHT = st.column_config.TextColumn(alignment="right")
_PART = st.column_config.TextColumn(width=230, pinned=True)  # stays where it is while the numbers are looked through


@functools.cache
def _texts() -> dict[str, Any]:
    return tomllib.loads(TEXT.read_text(encoding="utf-8"))


def text_of(part: "Part", parts: "Parts") -> dict[str, Any]:
    """Title, words, formulas and source of a part."""
    is_v2 = part.kind == "gate" and parts.config.scoring == "softmax"
    return _texts()["gate-v2" if is_v2 else part.kind]


# --- choices ---------------------------------------------------------------------------------------------------------


def choose_part(parts: "Parts") -> "Part":
    """Choose a part; a click on the picture does the same."""
    named = {part.key: part for part in parts.all}
    controls.keep_within("part", named)
    first = next((number for number, part in enumerate(named.values()) if part.kind == "experts"), 0)
    chosen = st.selectbox("Part", list(named), first, key="part", bind="query-params", format_func=_spelled)
    return named[chosen]


def _spelled(key: str) -> str:
    """A part's key as it stands in the list and in the address."""
    return key.replace("-", " ").replace("_", " ")


def choose_context(parts: "Parts") -> int:
    """Choose how many tokens a token has to look at."""
    options = [number for number in CONTEXTS if number <= parts.config.max_positions] or CONTEXTS[:1]
    controls.keep_within("context", options)
    said = "Earlier tokens that a new token has to look at: they decide what attention costs."
    longest = len(options) - 1
    chosen = st.selectbox(
        "Context", options, index=longest, key="context", bind="query-params", format_func=str, help=said
    )
    return chosen or options[-1]


def choose_dtype() -> str:
    """Choose how the weights are stored, for counting bytes."""
    from model.checkpoint.parts import dtypes

    said = "How weights are stored. The cache is counted in 2 bytes per number, in 4 with float32."
    return st.selectbox("Weights stored as", list(dtypes()), index=1, key="bytes", bind="query-params", help=said)


def painted_layer(trace: Trace | None, described: Described) -> int | None:
    """Choose the layer whose load is painted; None where no run of this model is on show."""
    if trace is None or not is_of(trace, described) or not trace.has("expert_id"):
        return None
    return controls.layer(trace)


# --- the picture -----------------------------------------------------------------------------------------------------


def picture(described: Described, part: "Part", trace: Trace | None, layer: int | None) -> None:
    """The main figure, with a run of the same model painted on it."""
    model = drawing.drawing(described.parts)
    is_own = trace is not None and is_of(trace, described)
    recall = heads.indexer_recall(session.shown(), layer) if is_own and layer is not None else None
    paint = drawing.paint(trace, layer, recall) if trace is not None and is_own else None
    figure = architecture(model, session.theme(), part.key, paint, st.session_state.get("expert"))
    table = architecture_tables.everything(described.parts, 0, "bfloat16")
    controls.chart(figure, "architecture", table, _how_to_read(trace if is_own else None, layer, recall), take_click)


def _how_to_read(trace: Trace | None, layer: int | None, recall: float | None) -> str:
    said = (
        "Upwards along the line on the left, the residual stream: every part reads a copy of it and adds its output. "
        "Layers with the same tensors are drawn once. A number on a part is its parameters in one layer; a square is "
        "an expert, the lines below the squares are the groups. Click a part; the list does the same."
    )
    if trace is None:
        return f"{said} Nothing is painted: the run on show is of another model, or there is none."
    painted = (
        f" Squares are the load of L{layer} over a fair share, orange more, blue less; numbers that of the groups."
    )
    where = "" if layer is None else painted
    if recall is not None:
        where += f" The bar in its indexer: the keys that it kept hold {recall:.1%} of the attention paid without it."
    return (
        f"{said}{where} The curve on the left is the residual norm where each layer ends, the median of the tokens. "
        f"Click a point of it to choose a layer. n = {trace.num_tokens:,} tokens, derived."
    )


def take_click() -> None:
    """The part that was clicked, and with it perhaps a layer and an expert."""
    points = (st.session_state.get("architecture") or {}).get("selection", {}).get("points", [])
    found = points[0].get("customdata") if points else None
    if found:
        key, layer, expert = found.values() if isinstance(found, Mapping) else found
        st.session_state["part"] = key
        also = {"layer": int(layer), "expert": int(expert)}
        controls.choose(**{name: number for name, number in also.items() if number >= 0})


# --- one part --------------------------------------------------------------------------------------------------------


def details(part: "Part", parts: "Parts", context: int, dtype: str) -> None:
    """One part: what it does, its formulas, what it holds and costs, its tensors, and where to read on."""
    text = text_of(part, parts)
    where = f" :gray[{layers(part.layers)}]" if part.layers else ""
    is_sparse = part.kind == "attention" and parts.config.is_sparse
    selected = " Here the sums run over the tokens that the indexer selected." if is_sparse else ""
    st.markdown(f"**{text['title']}**{where}  \n{text['says']}{selected}")
    for formula in text["formulas"]:
        st.latex(rf"\small {formula}")
    table = architecture_tables.sizes(part, context, dtype)
    st.dataframe(table, hide_index=True, height="content", column_config={name: _RIGHT for name in table.columns[1:]})
    beginning, held = architecture_tables.tensors(part)
    st.caption(f"Tensors `{beginning}…`" if part.parameters else "Has no tensor of its own, but the embedding's.")
    st.dataframe(held, hide_index=True, height="content", column_config={"parameters": tables.WHOLE})
    st.caption(f"{text['source']}. Parameters and shapes from the configuration, the rest derived.")


# --- below -----------------------------------------------------------------------------------------------------------


def summary(described: Described) -> str:
    """The model in one line."""
    parts = described.parts
    total = sum(part.times * part.parameters for part in parts.main)
    active = sum(part.times * part.active for part in parts.main)
    cache = 2 * sum(part.times * part.cache_values for part in parts.main)
    said = (
        f"**{plain(described.name)}**: {count(total)} parameters ({total:,}), of which {count(active)} serve one token "
        f"({active / total:.1%}); {cache:,} bytes of cache per token in bfloat16."
    )
    return said if described.folder else f"{said} Known by its published configuration; it is not run here."


def about(name: str, described: Described, context: int, dtype: str) -> None:
    """Fill the tab of that name."""
    if name == ALL:
        all_parts(described, context, dtype)
    else:
        beside(context)


def all_parts(described: Described, context: int, dtype: str) -> None:
    """Every part, over all its layers."""
    table = architecture_tables.everything(described.parts, context, dtype)
    columns = {"part": _PART} | {name: tables.WHOLE for name in table.columns[1:]}
    st.dataframe(table, hide_index=True, height="content", column_config=columns)
    st.caption(
        f"Over all layers, for one new token that looks at {context:,} others, weights in {dtype}. Multiply-adds are "
        "those of matrix products in the absorbed form of attention. Multi-token prediction is not part of the sum."
    )
    controls.download_table(table, "architecture-parts")


def beside(context: int) -> None:
    """The released V3 and V3.2, with what the later one added marked."""
    before, after = (describe(name).parts for name in ("deepseek-v3", "deepseek-v3.2"))
    new = architecture_tables.added(before, after)
    st.markdown(_difference(before, after, new, context))
    _cost(before, after, context)
    for column, name, parts in zip(st.columns(2), ("DeepSeek-V3", "DeepSeek-V3.2"), (before, after), strict=True):
        with column:
            st.markdown(f"**{name}**")
            figure = architecture(drawing.drawing(parts, new), session.theme())
            said = "As the picture above; what only V3.2 has is outlined in purple."
            table = architecture_tables.everything(parts, context, "bfloat16")
            controls.chart(figure, f"architecture-{name}", table, said)
    table = architecture_tables.side_by_side(before, after, context)
    columns = {"part": _PART} | {name: tables.WHOLE for name in table.columns[1:]}
    st.dataframe(table, hide_index=True, height="content", column_config=columns)
    controls.download_table(table, "architecture-v3-v3.2")


def _cost(before: "Parts", after: "Parts", context: int) -> None:
    work = architecture_tables.work_by_context(before, after, CONTEXTS)
    said = (
        "Both axes are logarithmic. V3's attention reads every token; V3.2's reads at most those that its indexers "
        "choose, and stays level from there on, so that the indexers, which look at all tokens, come to be most of the "
        "work. Absorbed form of attention, one new token. Derived. The line marks the chosen context."
    )
    table = work.to_pandas().T.reset_index()
    controls.chart(cost_by_context(work, session.theme(), context), "architecture-cost", table, said)


def _difference(before: "Parts", after: "Parts", new: list[str], context: int) -> str:
    parts = [part for part in after.main if part.key in new]
    number, total = sum(part.times for part in parts), sum(part.times * part.parameters for part in parts)
    was, now = (architecture_tables.attention_work(each, context) for each in (before, after))
    relation = f"{was / now:.3g} times fewer" if now < was else f"{now / was:.3g} times as many"
    return (
        f"V3.2 adds a lightning indexer to each of {number} layers, and leaves all else as it was: "
        f"{parts[0].parameters:,} parameters in a layer, {total:,} in all, and one more in multi-token prediction. "
        f"Attention then reads at most {after.config.index_topk:,} tokens, those with the best scores. For a token "
        f"that has {context:,} others to look at, attention and indexer take {count(now)} multiply-adds in all layers, "
        f"where V3 takes {count(was)}: {relation} (derived)."
    )
