"""The tab of sharpness: how clearly the router decides, by layer and label."""

import html

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from model.atlas.folder import Sweep
from model.atlas.sharpness import sharpness
from model.trace.derived import derived
from model.trace.documents import FEWEST
from pages.common import controls, session, tables, text
from viz import atlas as figures


def show(sweep: Sweep, kind: str | None, layer: int, expert: int) -> None:
    """Draw the tab."""
    whole = derived(sweep, "sharp", lambda: sharpness(sweep))
    st.markdown(verdict(whole))
    if kind is not None and "near" in whole:
        found = derived(sweep, ("sharp", kind), lambda: sharpness(sweep, kind))
        _near_ties(sweep, found, kind)
    frame = by_layer(whole)
    st.dataframe(
        frame, hide_index=True, height="content" if len(frame) < 12 else 420, placeholder="", key="atlas-sharp",
        column_config=tables.three_digits(frame),
    )  # fmt: skip
    st.caption(
        "Margin: the biased score of the last expert chosen minus that of the best one that was not; the median over "
        "the choices of all documents, read off 16 bins. Near ties: choices with a smaller margin than "
        f"{whole.attrs['near']:g}. Entropy of the load, over its maximum: 1 if all experts are chosen equally often. "
        "Only the entropy has an interval over documents; the sums of margins do not hold their spread."
    )
    controls.download_table(frame, "atlas-sharp")


def verdict(whole: xr.Dataset) -> str:
    """Return a sentence on the layer with most near ties, or that the sweep holds no margins."""
    documents = int(whole["documents"])
    if "near" not in whole:
        return f"This sweep holds no margins: its source gave the chosen experts alone. n = {documents:,} documents."
    near = whole["near"]
    worst = int(near["moe_layer"].values[int(near.values.argmax())])
    at = whole.sel(moe_layer=worst)
    return (
        f"**The router decides least clearly in L{worst}: {float(at['near']):.2%} of its choices are near ties**, with "
        f"a margin below {whole.attrs['near']:g}; the median margin there is {float(at['margin']):.3g}. "
        f"n = {documents:,} documents; derived."
    )


def _near_ties(sweep: Sweep, found: xr.Dataset, kind: str) -> None:
    """Draw the share of near ties by layer and label."""
    labels = found["label"].values.tolist()
    documents = found["documents"].values.tolist()
    shares = found["near"].where(found["documents"] >= FEWEST).transpose("moe_layer", "label").values
    names = [f"L{number}" for number in sweep.layers]
    texts = np.array(
        [
            [
                f"{names[row]}, {html.escape(label)}<br>{share:.3%} near ties<br>n = {number:,} documents (derived)"
                for label, share, number in zip(labels, shares[row].tolist(), documents, strict=True)
            ]
            for row in range(len(names))
        ],
        object,
    )
    columns = [html.escape(label) for label in labels]
    figure = figures.share_map(shares, texts, names, columns, session.theme(), kind, "share of near ties")
    margins = found["margin"].transpose("moe_layer", "label").values
    table = pd.DataFrame(
        [
            (name, label, share, margin, number)
            for name, some, others in zip(names, shares.tolist(), margins.tolist(), strict=True)
            for label, share, margin, number in zip(labels, some, others, documents, strict=True)
        ],
        columns=["layer", kind, "near ties", "median margin", "documents"],
    )
    how_to_read = (
        f"A row per layer, a column per {text.plain(kind)}: the share of choices whose margin is below "
        f"{found.attrs['near']:g}. Rounding, another device or another batch can change such a choice. The sums of a "
        "sweep give no interval for it; labels of fewer than 20 documents are blank."
    )
    controls.chart(figure, "atlas-near-ties", table, how_to_read)


def by_layer(whole: xr.Dataset) -> pd.DataFrame:
    """Return a table with a row per layer."""
    names = {
        "margin": "median margin",
        "near": "near ties",
        "entropy": "entropy",
        "entropy_low": "low (95 %)",
        "entropy_high": "high (95 %)",
    }
    layers = [f"L{number}" for number in whole["moe_layer"].values.tolist()]
    columns = {label: whole[name].values for name, label in names.items() if name in whole}
    return pd.DataFrame({"layer": layers} | columns | {"documents": int(whole["documents"])})
