"""The tab of layers: how much the expert of a token tells about the label of its document."""

import pandas as pd
import streamlit as st
import xarray as xr

from model.atlas.folder import Sweep
from model.atlas.information import information
from model.trace.derived import derived
from pages.common import controls, session
from pages.observe.atlas import choices
from viz import atlas as figures


def show(sweep: Sweep, kind: str | None, layer: int, expert: int) -> None:
    """Draw the tab."""
    if kind is None:
        st.info(choices.UNLABELLED)
        return
    within = _within(sweep, kind)
    measures = [(f"within a {within}", _information(sweep, kind, within))] if within else []
    measures.append(("over all documents", _information(sweep, kind, None)))
    st.markdown(verdict(measures, kind))
    names = [f"L{number}" for number in sweep.layers]
    series = {name: found["corrected"].values for name, found in measures}
    hover = {name: [_hover(name, row) for row in _records(found)] for name, found in measures}
    figure = figures.measures_by_layer(names, series, hover, "bit per choice", session.theme())
    controls.chart(figure, "atlas-information", table(measures), _how_to_read(kind, within))


def _within(sweep: Sweep, kind: str) -> str | None:
    """Return the label to hold fixed: the language, or for languages the domain; None if the sweep lacks it."""
    other = "domain" if kind == "language" else "language"
    return other if other in choices.kinds(sweep) else None


def _information(sweep: Sweep, kind: str, within: str | None) -> xr.Dataset:
    return derived(sweep, ("information", kind, within), lambda: information(sweep, kind, within))


def _records(found: xr.Dataset) -> list[dict[str, float]]:
    return found.to_dataframe().reset_index().to_dict("records")  # pyright: ignore[reportReturnType]


def _hover(name: str, row: dict[str, float]) -> str:
    return (
        f"L{row['moe_layer']:.0f}, {name}<br>{row['corrected']:.3g} bit: {row['plug_in']:.3g} counted, "
        f"{row['chance']:.3g} by chance<br>p = {row['p']:.2g} (derived)"
    )


def verdict(measures: list[tuple[str, xr.Dataset]], kind: str) -> str:
    """Return a sentence on the layer whose experts tell most about the label."""
    name, first = measures[0]
    rows = sorted(_records(first), key=lambda row: -row["corrected"])
    documents, shuffles = first.attrs["documents"], first.attrs["shuffles"]
    beyond = sum(row["p"] <= 0.05 for row in rows)
    words = (
        f"**The expert of a token tells at most {rows[0]['corrected']:.3g} bit about the {kind} of its document, in "
        f"L{rows[0]['moe_layer']:.0f}** ({name}). "
        f"{beyond} of {len(rows)} layers tell more than {shuffles} shuffles of the documents' labels do (p up to 0.05)."
    )
    if len(measures) > 1:
        everything = max(row["corrected"] for row in _records(measures[1][1]))
        words += f" Without holding the {first.attrs['within']} fixed, the most would be {everything:.3g} bit."
    return f"{words} n = {documents:,} documents."


def table(measures: list[tuple[str, xr.Dataset]]) -> pd.DataFrame:
    """Return a table with a row per layer and measure."""
    names = {"plug_in": "counted (bit)", "chance": "by chance (bit)", "corrected": "difference (bit)", "p": "p"}
    parts = []
    for name, found in measures:
        frame = found.to_dataframe().reset_index().rename(columns=names)
        layers = [f"L{number}" for number in frame["moe_layer"]]
        parts.append(
            frame[list(names.values())].assign(layer=layers, documents=found.attrs["documents"], shuffled=name)
        )
    return pd.concat(parts, ignore_index=True)


def _how_to_read(kind: str, within: str | None) -> str:
    held = (
        f"The filled mark holds the {within} fixed: labels are shuffled only among documents of the same {within}, so "
        f"it shows what the {kind} adds. The hollow mark shuffles over all documents. "
        if within
        else ""
    )
    return (
        f"Mutual information of expert and {kind}, a row per layer: 0 means that the expert tells nothing. Chance "
        "alone gives more than 0, because the tokens of one document are alike; the mean over shuffles of the "
        f"documents' labels is taken off, and a value may be negative. {held}Derived."
    )
