"""The widget for the number of keys that a query keeps."""

import streamlit as st

from model.trace.trace import Trace


def top_k(trace: Trace) -> int:
    """Let the visitor choose how many keys a query keeps, at first as many as in the model; return the number."""
    own, most = int(trace.config["index_topk"]), max(2, trace.num_tokens)
    meaning = (
        f"How many earlier tokens a token may read. The model keeps {own}. With another number, the page selects "
        "again from the recorded scores, in this layer only."
    )
    return st.slider("Keys kept", 1, most, min(own, most), key="kept", bind="query-params", help=meaning)
