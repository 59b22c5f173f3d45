"""The tabs of the Architecture page."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from model.checkpoint import costs
from pages.common import controls, files, session
from pages.common.tables import WHOLE, WIDE, matrix
from pages.learn.architecture import drawing, tables
from pages.learn.architecture.catalogue import ShownModel, load
from pages.learn.architecture.choices import CONTEXTS
from pages.learn.architecture.drawing import count
from viz.architecture import architecture
from viz.architecture_cost import CACHE, WORK, cost_by_context

if TYPE_CHECKING:
    from model.checkpoint.parts import Parts

_PART = st.column_config.TextColumn(width=270, pinned=True)  # this column stays in place while the others scroll

# Column of `tables.everything` -> help text.
_MEANINGS = {
    "times": "Layers that have this part.",
    "parameters": "Trained numbers.",
    "active": "Parameters that one token passes through.",
    "multiply-adds": "Multiplications with an addition, for one token.",
    "weight bytes read": "Bytes of weights that one token reads.",
    "cache bytes kept": "Bytes that the cache keeps of one token.",
    "cache bytes read": "Bytes that one token reads from the cache, summed over the earlier tokens.",
}


def _column(name: str) -> Any:
    return st.column_config.NumberColumn(
        format="localized", width=None if name == "times" else WIDE, help=_MEANINGS.get(name)
    )


def all_parts(model: ShownModel, context: int, dtype: str) -> None:
    """Show a table of every part, summed over its layers."""
    table = tables.everything(model.parts, context, dtype)
    columns = {"part": _PART} | {name: _column(name) for name in table.columns[1:]}
    st.dataframe(table, hide_index=True, height="content", column_config=columns, placeholder="")
    st.caption(
        f"Over all layers, for one new token with {context:,} earlier tokens, weights in {dtype}. Multiply-adds "
        f"count matrix products only. {_counted(model.parts)} The sum leaves out multi-token prediction."
    )
    controls.download_table(table, "architecture-parts")


def _counted(parts: "Parts") -> str:
    """Return a sentence on how attention is counted."""
    if costs.window_bytes(parts):
        return "Each cache entry that attention reads counts as key and as value."
    return "Attention is counted in its absorbed form, which uses the latents as keys and values."


def v3_beside_v32(model: ShownModel, context: int, dtype: str) -> None:
    """Show the released V3 and V3.2, with the parts that V3.2 added outlined."""
    before, after = (load(name).parts for name in ("deepseek-v3", "deepseek-v3.2"))
    added = [part.key for part in costs.added_parts(before, after)]
    files.describe("DeepSeek-V3 and V3.2")
    st.markdown(_difference(before, after, context))
    _cost(before, after, context)
    for column, name, parts in zip(st.columns(2), ("DeepSeek-V3", "DeepSeek-V3.2"), (before, after), strict=True):
        with column:
            st.markdown(f"**{name}**")
            figure = architecture(drawing.drawing(parts, added), session.theme())
            how_to_read = "Drawn like the figure above; the parts that only V3.2 has are outlined in purple."
            table = tables.everything(parts, context, "bfloat16")
            controls.chart(figure, f"architecture-{name}", table, how_to_read)
    table = tables.side_by_side(before, after, context)
    columns = {"part": _PART} | {name: WHOLE for name in table.columns[1:]}
    st.dataframe(table, hide_index=True, height="content", column_config=columns, placeholder="")
    controls.download_table(table, "architecture-v3-v3.2")


def _cost(before: "Parts", after: "Parts", context: int) -> None:
    """Show the cost of attention by context length."""
    work = costs.work_by_context(before, after, _contexts(before, after))
    how_to_read = (
        "Both axes are logarithmic. V3's attention reads every token. V3.2's attention reads only the tokens that its "
        "indexers choose, and they choose at most a fixed number: beyond it, the cost of attention is constant. The "
        "indexers score all tokens and become most of the cost. Absorbed form of attention, one new token. Derived. "
        "The line marks the chosen context."
    )
    table = matrix(work.T)
    controls.chart(cost_by_context(work, session.theme(), context), "architecture-cost", table, how_to_read)


def _difference(before: "Parts", after: "Parts", context: int) -> str:
    """Return a few sentences on the parts that V3.2 adds, and on the cost of attention in both models."""
    added = [part for part in costs.added_parts(before, after) if part in after.main]
    number = sum(part.times for part in added)
    total = sum(costs.part_cost(part, context, "bfloat16").parameters for part in added)
    was, now = (costs.attention_work(parts, context) for parts in (before, after))
    most = max(read.most or 0 for part in after.main for read in part.reads)
    relation = f"{was / now:.3g} times fewer" if now < was else f"{now / was:.3g} times as many"
    return (
        f"V3.2 adds a lightning indexer to each of {number} layers: {added[0].parameters:,} parameters in a layer, "
        f"{total:,} in all. Multi-token prediction gets one more indexer; all else is as in V3. Attention then reads "
        f"at most {most:,} tokens, those with the best scores. For a token with {context:,} "
        f"earlier ones, attention and indexer take {count(now)} multiply-adds in all layers, where V3 takes "
        f"{count(was)}: {relation} (derived)."
    )


def v32_beside_v4(model: ShownModel, context: int, dtype: str) -> None:
    """Show the cost of attention and the size of the cache of V3.2 and of both released V4 models, by context."""
    names = {"deepseek-v4-flash": "V4-Flash", "deepseek-v3.2": "V3.2", "deepseek-v4-pro": "V4-Pro"}
    shown = {title: load(name).parts for name, title in names.items()}
    files.describe("DeepSeek-V3.2 and V4")
    context = min(context, _contexts(*shown.values())[-1])
    st.markdown(_v4_difference(shown, context))
    work, cache = costs.work_of_models(shown, CONTEXTS), costs.cache_of_models(shown, CONTEXTS)
    charts = {"architecture-v4-cost": (work, WORK, _WORK_READ), "architecture-v4-cache": (cache, CACHE, _CACHE_READ)}
    for key, (values, labels, how_to_read) in charts.items():
        controls.chart(cost_by_context(values, session.theme(), context, labels), key, matrix(values.T), how_to_read)
    table = tables.by_kind(shown)
    columns = {"part": _PART} | {name: WHOLE for name in table.columns[1:]}
    st.dataframe(table, hide_index=True, height="content", column_config=columns, placeholder="")
    controls.download_table(table, "architecture-v3.2-v4")


_WORK_READ = (
    "Both axes are logarithmic. V3.2's indexers score every earlier token. V4's indexers score one entry for every 4 "
    "tokens, and only in every second layer; most other layers read one entry for every 128 tokens, without a "
    "selection. V3.2's line ends at the longest context that its configuration allows. One new token. Derived. The "
    "vertical line marks the chosen context."
)
_CACHE_READ = (
    "Both axes are logarithmic. All values are counted in bfloat16, to compare what the models keep; the released V4 "
    "stores most of its cache in 8 bits. Up to 128 tokens V4 keeps every token in its windows; then only the "
    "compressed entries grow. Tokens of an incomplete block are not counted. Derived."
)


def _v4_difference(shown: "dict[str, Parts]", context: int) -> str:
    """Return a few sentences on the cost of attention and the cache of V4 beside V3.2's."""
    work, kept = (
        {name: cost(parts, context) for name, parts in shown.items()}
        for cost in (costs.attention_work, costs.cache_bytes)
    )
    shares = {name: f"{kept[name] / kept['V3.2']:.1%}" for name in ("V4-Flash", "V4-Pro")}
    return (
        "V4 keeps V3's experts and multi-token prediction, and changes how layers are joined, what attention keeps and "
        f"how the first layers route. For a token with {context:,} earlier ones, attention and indexers take "
        f"{count(work['V4-Flash'])} multiply-adds in V4-Flash and {count(work['V4-Pro'])} in V4-Pro, where V3.2 takes "
        f"{count(work['V3.2'])}. The cache holds {_bytes(kept['V4-Flash'])} in V4-Flash and "
        f"{_bytes(kept['V4-Pro'])} in V4-Pro, {shares['V4-Flash']} and {shares['V4-Pro']} of V3.2's (derived, in "
        "bfloat16)."
    )


def _bytes(number: int) -> str:
    """Return a number of bytes with three digits, such as `1.30 GB`."""
    return f"{count(number).replace(' B', ' G')}B"


def _contexts(*models: "Parts") -> list[int]:
    """Return the context lengths that every one of the models can have."""
    return [context for context in CONTEXTS if all(context <= parts.config.max_positions for parts in models)]


ALL, BESIDE, BESIDE_V4 = "All parts in numbers", "V3 beside V3.2", "V3.2 beside V4"
TABS = {ALL: all_parts, BESIDE: v3_beside_v32, BESIDE_V4: v32_beside_v4}
