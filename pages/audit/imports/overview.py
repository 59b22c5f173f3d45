"""The overview of the Imports page: the parts of the run on show, and how each engine makes a file."""

import streamlit as st

from model.trace import file
from model.trace.imports import origin
from model.trace.imports.counts import Counts
from model.trace.trace import Trace
from pages.audit.imports import tables
from pages.common import text
from pages.common.tables import three_digits

# Engine -> how it writes a file that can be imported.
MADE_BY = {
    "vLLM": "Start it with `--enable-return-routed-experts`, set `return_token_ids` in the request, and save the "
    "answer of `/v1/completions` as JSON.",
    "SGLang": "Start it with `--enable-return-routed-experts`, set `return_routed_experts` in the request, and save "
    "the answer of `/generate` or `/v1/completions` as JSON.",
    "SGLang's recorder": "Use the mode `per_token`; convert the `.pt` file to JSON by the script that "
    "`python -m model import --help` prints.",
    "transformers": "Save `output_router_logits` as safetensors: `router_logits.N` [token, expert], N is the layer.",
    "llama.cpp": "Save the CSV of `moe-trace` (pull request 28544). Counts: the GGUF file of `llama-imatrix`.",
    "colibri": "Set `ROUTE_TRACE=FILE`. Counts: the file `.coli_usage`.",
    "SGLang's recorder, counts": "Use the mode `stat`, and convert the `.pt` file by the same script.",
    "MoE Loupe": "Save a trace here, or by `python -m model trace` or `import`.",
}


def contents(trace: Trace) -> None:
    """Show which parts the trace on show holds, why other parts are missing, and a button that saves the trace."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Parts of the run on show** (n = {trace.num_tokens:,} tokens)")
        st.download_button(
            "Save as a trace file", data=lambda: file.dumps(trace), key="import_save", on_click="ignore",
            file_name=f"{trace.model.get('name', 'trace')}.safetensors", icon=":material/download:",
        )  # fmt: skip
    first, narrow, wide = (st.column_config.TextColumn(width=width) for width in (150, "small", "large"))
    tag = st.column_config.TextColumn(
        width="small", help="Measured by this app, imported from the file, derived from what was imported, or missing."
    )
    widths = {"part": first, "known": narrow, "tag": tag, "why not": wide}
    st.dataframe(
        tables.held(trace), hide_index=True, height="content", key="import_held", column_config=widths, placeholder=""
    )
    for note in origin.notes(trace):
        st.caption(text.plain(note))


def counts(imported: Counts) -> None:
    """Show the counts of a file that holds no tokens: how much was counted, and a table of the layers."""
    named = text.as_code(imported.named.name)
    st.markdown(
        f"**{imported.program}: {imported.extent()}.** Model {named}. The file has no tokens, so the run on show "
        "stays, and no documents, so nothing here has an interval and no expert can be called a specialist."
    )
    table = tables.counted(imported)
    st.dataframe(table, hide_index=True, key="import_counted", column_config=three_digits(table), placeholder="")
    for note in imported.notes:
        st.caption(text.plain(note))
    st.caption("`python -m model place FILE --model MODEL` makes an expert map of these counts for a serving engine.")


def formats() -> None:
    """List how each engine writes a file that can be imported."""
    with st.expander("How to make a file", icon=":material/help:"):
        st.markdown("\n".join(f"- **{engine}**: {how}" for engine, how in MADE_BY.items()))
