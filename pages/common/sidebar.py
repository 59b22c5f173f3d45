"""The sidebar: the choice of the model, its size, the link to this view, and trace files to save and open."""

import math
from pathlib import Path
from typing import Any

import streamlit as st

from model.checkpoint.embedded import name_of
from model.trace import file, kv_cache
from model.trace.trace import TraceError
from pages.common import copy_link, limits, models, prompt, session, text, view


def show() -> None:
    """Draw the sidebar. An uploaded trace becomes the run on show."""
    with st.sidebar:
        _on_show()
        _model()
        _link()
        with st.expander("Trace file", icon=":material/description:"):
            _trace_file()
        st.segmented_control(
            "Save charts as", ["svg", "png"], default="svg", required=True, key="picture", persist_state="session"
        )


def _on_show() -> None:
    """Show which run is on show: its model, its first words, and where it was made. The chosen model may differ."""
    run = session.shown()
    if run is not None and run.trace is not None:
        st.caption(f"On show: {view.named(run)}  \n{view.made(run.trace)}")


def _link() -> None:
    """Draw the button that copies the URL. If the URL cannot hold the run, say so and offer the trace file."""
    lost = prompt.left_out(session.shown())
    if lost:
        st.caption(f"{lost} Save the trace instead; it opens under Trace file.")
        _save("save-for-link")
    copy_link.button(whole=lost is None)


def _model() -> None:
    available = models.available()
    if not available:
        st.warning(f"No model is installed. Name a model folder in {models.VARIABLE} and start again.")
        return
    folder = available[st.selectbox("Model", list(available), key="model", bind="query-params", on_change=_ask)]
    st.caption(_card(models.config(folder), folder))
    trace = session.current_trace()
    if trace is not None and trace.model.get("name") != name_of(folder):
        st.caption("The next run uses this model. The run on show comes from another model.")


def _ask() -> None:
    """Set the chat switch for the chosen model: on if it was trained to answer questions, else off. A callback."""
    st.session_state["chat"] = models.answers()


def _card(config: dict[str, Any], folder: Path) -> str:
    layers, dense = config.get("num_hidden_layers", "?"), config.get("first_k_dense_replace", 0)
    groups = f"{config.get('n_group', 1)} groups, {config.get('topk_group', 1)} kept"
    parts = [
        f"{layers} layers, the first {dense} dense",
        f"{config.get('n_routed_experts', '?')} experts in {groups}",
        f"{config.get('num_experts_per_tok', '?')} per token, {config.get('n_shared_experts', 0)} shared",
        f"{config.get('num_attention_heads', '?')} heads, context {config.get('max_position_embeddings', '?')}",
    ]
    return "  \n".join(map(text.plain, [*sizes(folder), *parts]))


@st.cache_data(show_spinner=False)
def sizes(folder: Path) -> list[str]:
    """Return lines on the parameters and the KV cache of a model; a number that is unknown has no line.

    The numbers come from file headers and the configuration. `model.checkpoint.sizes` computes the same, but imports
    torch, and the first screen would wait for the import.
    """
    from model.checkpoint.names import mtp_prefix
    from model.network.config import ModelConfig

    try:
        config = ModelConfig.from_json(models.config(folder))
    except (ValueError, TypeError):
        return []
    cached = kv_cache.cache_bytes(config.to_json())[kv_cache.OWN]
    lines = [f"{cached:,} bytes of cache per token (bfloat16)"]
    total, of_experts = _num_parameters(folder, mtp_prefix(config))
    if total:
        idle = of_experts * (config.num_experts - config.top_k) // max(1, config.num_experts)
        lines.insert(0, f"{total / 1e6:,.1f} M parameters, {(total - idle) / 1e6:,.1f} M active")
    return lines


def _num_parameters(folder: Path, mtp: str) -> tuple[int, int]:
    """Return the number of parameters in all, and in routed experts; (0, 0) if a header is unreadable.

    Block scales are not counted, nor tensors whose names begin with `mtp`, the prefix of multi-token prediction.
    """
    from model.checkpoint.header import CheckpointError, read_header
    from model.checkpoint.names import place_of, scaled_weight

    total = of_experts = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            stored = read_header(path)
        except CheckpointError:
            return 0, 0
        for name, tensor in stored.items():
            if not name.startswith(mtp) and scaled_weight(name) is None:
                number = math.prod(tensor.shape)
                total += number
                of_experts += number if place_of(name).expert is not None else 0
    return total, of_experts


def _save(key: str) -> None:
    trace = session.current_trace()
    if trace is not None:
        name = f"{trace.model.get('name', 'trace')}.safetensors"
        st.download_button(
            "Save this trace", data=lambda: file.dumps(trace), file_name=name,
            key=key, on_click="ignore", icon=":material/download:", width="stretch",
        )  # fmt: skip


def _trace_file() -> None:
    _save("save-trace")
    st.file_uploader(
        "Open a trace file",
        ["safetensors"],
        key="upload",
        on_change=_open,
        max_upload_size=limits.UPLOAD_BYTES // 2**20,
    )
    error = st.session_state.get("upload_error")
    if error:
        st.error(f"The file was not opened: {text.plain(error)}. The page still shows the previous trace.")


def _open() -> None:
    uploaded = st.session_state.get("upload")
    st.session_state["upload_error"] = None
    if uploaded is None:
        return
    try:
        session.open_file(uploaded.getvalue())
    except TraceError as error:
        st.session_state["upload_error"] = str(error)
