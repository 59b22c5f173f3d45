"""The number of keys that a query keeps."""

import streamlit as st

from model.trace.trace import Trace


def top_k(trace: Trace) -> int:
    """Choose how many keys a query keeps: the model's own number until another is chosen."""
    own, most = int(trace.config["index_topk"]), max(2, trace.num_tokens)
    meaning = (
        f"How many earlier tokens a token may read. The model keeps {own}. Another number selects anew from the "
        "recorded scores, in this layer alone."
    )
    return st.slider("Keys kept", 1, most, min(own, most), key="kept", bind="query-params", help=meaning)
