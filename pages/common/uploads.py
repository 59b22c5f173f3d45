"""Uploaded trace files. They are read from memory; no path from an upload is opened."""

import streamlit as st

from model.trace import file
from model.trace.trace import Trace, TraceError
from pages.common import limits


def choose_trace(key: str, label: str = "Trace file") -> Trace | None:
    """Draw an upload widget and return its trace, which is parsed once per file; None until a file is chosen.

    Args:
        key: prefix of the widget key, to which `-file` is added.
        label: label of the widget.

    Raises:
        TraceError: the file is too large, or not a trace.
    """
    uploaded = st.file_uploader(label, ["safetensors"], key=f"{key}-file", max_upload_size=limits.UPLOAD_BYTES // 2**20)
    if uploaded is None:
        return None
    cached = st.session_state.get(f"{key}-read")
    if cached is None or cached[0] != uploaded.file_id:
        if uploaded.size > limits.UPLOAD_BYTES:
            raise TraceError(f"the file is larger than {limits.UPLOAD_BYTES / 2**20:.0f} MB; choose a smaller one")
        cached = (uploaded.file_id, file.loads(uploaded.getvalue()))
        st.session_state[f"{key}-read"] = cached
    return cached[1]
