"""The Imports page: a file that another engine wrote becomes the trace on show, and what is in it and what is not."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from model.checkpoint.embedded import RELEASED
from model.trace import file, metrics
from model.trace.imports import AUTO, NAMES, origin
from model.trace.imports.formats import read
from model.trace.trace import Trace, TraceError
from pages.common import limits, models, session, text

if TYPE_CHECKING:
    from model.trace.imports.building import Named

NOT_NAMED = "not named"
_MEGABYTES = limits.UPLOAD_BYTES // 2**20
# What a trace may hold -> the variables that say so.
PARTS = {
    "chosen experts": ("expert_id",),
    "weights": ("gate_weight",),
    "affinities": ("router_score",),
    "selection bias": ("expert_bias",),
    "kept groups": ("group_kept",),
    "probabilities of tokens": ("logprob", "candidate_logprob"),
    "attention": ("attention",),
}
# Engine -> how such a file is made there.
MADE_BY = {
    "vLLM": "Start it with `--enable-return-routed-experts` and save an answer of `/v1/completions` as JSON; ask for "
    "`return_token_ids`.",
    "SGLang": "Start it with `--enable-return-routed-experts`, ask for `return_routed_experts`, save the answer of "
    "`/generate` or `/v1/completions` as JSON.",
    "SGLang's recorder": "Mode `per_token`; the `.pt` file becomes JSON by the script that `python -m model import "
    "--help` prints.",
    "transformers": "`output_router_logits`, saved as safetensors: `router_logits.N` [token, expert], N the layer.",
    "llama.cpp": "The CSV of `moe-trace` (pull request 28544).",
    "MoE Loupe": "A trace that was saved here, or by `python -m model trace` or `import`.",
}


def choices() -> list[str]:
    """The models that a file may belong to."""
    return [NOT_NAMED, *models.available(), *RELEASED]


def label(name: str) -> str:
    """A model of `choices` as it is called on screen."""
    return f"{RELEASED[name]} (configuration)" if name in RELEASED else name


@st.cache_resource(show_spinner=False, max_entries=8)
def _named(model: Path | str) -> "Named":
    from model.checkpoint.named import named_model

    return named_model(model)


def named(name: str) -> "Named":
    """A model of `choices` with what can be asked of it.

    Raises:
        ValueError: it is none of them, or its configuration or vocabulary cannot be read.
    """
    folders = models.available()
    if name not in folders and name not in RELEASED:  # a browser can send any text, also the path of a folder
        raise TraceError("the model named is not offered here; choose one from the list")
    return _named(folders.get(name, name))


def choose() -> None:
    """A file, its format, its model; on the button it becomes the trace on show."""
    left, right = st.columns([3, 2])
    left.file_uploader("File", key="import_file", max_upload_size=_MEGABYTES)
    with right:
        st.selectbox("Format", list(NAMES), key="import_format", format_func=NAMES.__getitem__, bind="query-params")
        st.selectbox(
            "Model", choices(), key="import_model", format_func=label, bind="query-params",
            help="The one that the engine ran: its configuration says which layers have experts, and how many.",
        )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(
            "Show it",
            key="import_show",
            type="primary",
            on_click=_show,
            disabled=not st.session_state.get("import_file"),
        )
        with st.popover("More", icon=":material/tune:"):
            st.file_uploader("What was sent to the engine, as JSON", key="import_request", max_upload_size=_MEGABYTES)
            st.number_input("Which of several answers or runs", 0, 10_000, 0, key="import_choice")
    problem = st.session_state.get("import_error")
    if problem:
        st.error(f"The file was not imported: {text.message(problem)}. What was on show stays.")


def _show() -> None:
    """Read what was chosen. A callback."""
    state = st.session_state
    state["import_error"] = None
    uploaded, sent, model = state.get("import_file"), state.get("import_request"), state.get("import_model")
    if uploaded is None:
        return
    try:
        if uploaded.size > limits.UPLOAD_BYTES:
            raise TraceError(f"the file is larger than {_MEGABYTES} MB; import it with `python -m model import`")
        of_model = None if model in (None, NOT_NAMED) else named(model)
        request = None if sent is None else sent.getvalue()
        found = read(
            uploaded.getvalue(),
            state.get("import_format") or AUTO,
            of_model,
            request,
            int(state.get("import_choice", 0)),
        )
    except ValueError as problem:
        state["import_error"] = str(problem)
        return
    session.show_trace(found)


def contents(trace: Trace) -> None:
    """What the trace on show holds, what it does not and why; and its download."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**What the run on show holds** (n = {trace.num_tokens:,} tokens)")
        st.download_button(
            "Save as a trace file", data=lambda: file.dumps(trace), key="import_save", on_click="ignore",
            file_name=f"{trace.model.get('name', 'trace')}.safetensors", icon=":material/download:",
        )  # fmt: skip
    narrow, wide = (st.column_config.TextColumn(width=width) for width in ("small", "large"))
    widths = {"part": narrow, "known": narrow, "tag": narrow, "why not": wide}
    st.dataframe(held(trace), hide_index=True, height="content", key="import_held", column_config=widths)
    for note in origin.notes(trace):
        st.caption(text.plain(note))


def held(trace: Trace) -> pd.DataFrame:
    """A row for each part of a trace: whether it is there, for how many tokens, how it came about, or why not."""
    known = sum(token.id >= 0 for token in trace.tokens)
    kind, total = origin.kind(trace), trace.num_tokens
    rows = [
        ("token ids", _of(known, total), kind if known else "missing", "" if known else "the file does not hold them"),
        (
            "text",
            f"{len(trace.text):,} bytes" if trace.text else "no",
            kind if trace.text else "missing",
            _textless(trace),
        ),
    ]
    reasons, worked_out = origin.missing(trace), origin.derived(trace)
    for part, names in PARTS.items():
        if any(trace.has(name) for name in names):
            number = int(metrics.has_experts(trace.data["expert_id"]).sum()) if part == "chosen experts" else total
            tag = "derived" if set(names) & set(worked_out) else kind
            rows.append((part, _of(number, total), tag, _rowless(trace, number)))
        else:
            rows.append((part, "no", "missing", _reason(part, reasons)))
    return pd.DataFrame(rows, columns=["part", "known", "tag", "why not"])


def _of(number: int, total: int) -> str:
    return "all" if number == total else f"{number:,} of {total:,} tokens" if number else "no"


def _textless(trace: Trace) -> str:
    return "" if trace.text else "no tokenizer gave the text of these ids"


def _rowless(trace: Trace, number: int) -> str:
    whole = number == trace.num_tokens
    return "" if whole else "the recording has no row for the others; the last sampled token was never run"


def _reason(part: str, reasons: dict[str, str]) -> str:
    """Why a part is missing, as the reader of the format said."""
    words = {"affinities": "scores", "selection bias": "bias", "kept groups": "groups"}
    sought = words.get(part, part)
    return next((why for what, why in reasons.items() if sought in what), "it was not recorded")


def formats() -> None:
    """Where such files come from."""
    with st.expander("Where such a file comes from", icon=":material/help:"):
        st.markdown("\n".join(f"- **{engine}**: {how}" for engine, how in MADE_BY.items()))
