"""The cost of decoding a token with dense and with sparse attention: time on this machine, and multiply-adds."""

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from model.trace import sparse
from model.trace.trace import Trace
from pages.common import controls, heads, session
from viz import sparse as figures

if TYPE_CHECKING:
    from model.run.decode_cost import DecodeCost
    from model.run.engine import Engine

TIMED = (1_024, 4_096, 16_384)  # context lengths in tokens, besides the length of the text
FAR = 131_072  # tokens: context length of the released models


def show(trace: Trace, layer: int, top_k: int) -> None:
    """Draw the time of decoding a token in one layer at several context lengths, and the multiply-adds."""
    contexts = (trace.num_tokens, *(context for context in TIMED if context > trace.num_tokens))
    engine, name = heads.engine_for(trace), str(trace.model.get("name"))
    costs = [_measured(name, layer, context, top_k, engine) for context in contexts]
    dense, selected, indexer = ([getattr(cost, part) for cost in costs] for part in ("dense", "sparse", "indexer"))
    figure = figures.cost_by_context(contexts, dense, selected, indexer, session.theme())
    how_to_read = (
        f"Time of one new token in layer {layer} with {top_k} keys kept and random keys in the cache, measured on "
        "this machine while others may use it. The time of attention to selected keys does not grow with the "
        "context. The time of the indexer does: it scores every key, with a few narrow heads."
    )
    columns = {"attention, every key (µs)": dense, "attention, selected keys (µs)": selected, "indexer (µs)": indexer}
    controls.chart(figure, "sparse-cost", pd.DataFrame({"context": contexts} | columns), how_to_read)
    rows = [{"context": context} | sparse.core_products(context, top_k, trace.config) for context in (*contexts, FAR)]
    st.caption("Multiply-adds of the same token in one layer, as far as they depend on the context. Derived.")
    st.dataframe(pd.DataFrame(rows), hide_index=True, placeholder="")


@st.cache_resource(show_spinner="Measuring", max_entries=64)
def _measured(name: str, layer: int, context: int, top_k: int, _engine: "Engine") -> "DecodeCost":
    from model.run.decode_cost import decode_cost

    return decode_cost(_engine.model, layer, context, top_k)
