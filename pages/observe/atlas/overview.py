"""The overview above the tabs: which corpus was routed, and what each expert is for."""

import streamlit as st

from model.atlas.folder import Sweep
from model.atlas.schema import LABELS
from pages.common import text


def corpus(sweep: Sweep) -> str:
    """Return a line on the corpus and the model of a sweep, as Markdown."""
    documents, request = sweep.documents, sweep.manifest.request
    labels = [f"{number} {kind}s" for kind in LABELS if (number := len(sweep.label_names(kind))) > 1]
    made = text.plain(f"{request.get('device', '?')}, {request.get('dtype', '?')}", 60)
    parts = [
        f"{text.plain(sweep.manifest.model.get('name', 'a model'), 80)}, measured on {made}",
        f"n = {len(documents):,} documents, {sum(documents['tokens'].tolist()):,} tokens",
        *labels,
    ]
    return "; ".join(parts) + "."


def remarks(sweep: Sweep) -> None:
    """Show notes on documents that failed, and on decisions that depended on the batch."""
    manifest = sweep.manifest
    if manifest.failed:
        st.caption(
            f"Not counted: {len(manifest.failed):,} documents that could not be routed; the manifest names them."
        )
    if manifest.invariance and manifest.invariance.get("different"):
        different, decisions = manifest.invariance["different"], manifest.invariance["decisions"]
        st.caption(f"With another batch size, {different:,} of {decisions:,} decisions of one shard differ.")
