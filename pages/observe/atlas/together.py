"""The tab of pairs: which experts are chosen together, which follow each other, and which are alike."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from model.atlas.coactivation import clusters, coactivation, transitions
from model.atlas.folder import Sweep
from model.atlas.likeness import likeness
from model.atlas.rule import rule_of
from model.trace.derived import derived
from pages.common import controls, session, tables
from viz import atlas as figures

MOST, MOST_ALIKE = 200, 20  # rows of a table
_CLUSTERS_HELP = (
    "Experts with more and stronger pairs among them than with others (greedy modularity). Only pairs count that are "
    "chosen together at least twice as often as forced, beyond chance."
)


def show(sweep: Sweep, kind: str | None, layer: int, expert: int) -> None:
    """Draw the tab."""
    found = derived(sweep, "pairs", lambda: coactivation(sweep))
    if found is None:
        st.info("This sweep holds no pairs of experts: with so many experts they would be too many.")
    else:
        _pairs(sweep, found, layer)
    _next(sweep, layer)
    _alike(sweep, layer)


def _pairs(sweep: Sweep, found: xr.Dataset, layer: int) -> None:
    table = listed(found.sel(moe_layer=layer), layer, None)
    documents = found.attrs["documents"]
    st.markdown(verdict(table, layer, documents))
    members = derived(sweep, ("clusters", layer), lambda: clusters(found.sel(moe_layer=[layer])))
    if words := clustered(members.sel(moe_layer=layer).values.tolist(), layer):
        st.markdown(words, help=_CLUSTERS_HELP)
    figure = _map(sweep, found.sel(moe_layer=layer), ("expert", "chosen together with"), documents)
    how_to_read = (
        "How often two experts are chosen for the same token, as a multiple of what this router's shape forces on a "
        "fair router: it chooses exactly top-k experts, within the kept groups, so experts of one group meet more "
        "often even by chance. Orange: more often than that; blue: less often. Grey: not beyond chance (5 % false "
        "discoveries over all pairs of all layers), or less than a factor of 2. Blank: too few documents. PMI, in the "
        "table, is log2 of the tokens with both experts over those expected if they were independent. Intervals are "
        "over documents."
    )
    controls.chart(figure, "atlas-pairs", table.head(MOST), how_to_read, layer=layer)


def verdict(table: pd.DataFrame, layer: int, documents: int) -> str:
    """Return a sentence on how many pairs of a layer are chosen together more or less often than forced."""
    called = table[table["verdict"] == "survives"]
    more = np.count_nonzero(called["beyond forced (log2)"] > 0)
    words = (
        f"**In L{layer}, {more:,} of {len(table):,} pairs of experts are chosen together at least twice as often as "
        f"the router's shape forces, and {len(called) - more:,} at most half as often.**"
    )
    if more:
        row = called.iloc[0]
        words += f" Most: {row['expert']} with {row['with']}, {2 ** row['beyond forced (log2)']:.3g} times."
    return f"{words} n = {documents:,} documents; derived."


def clustered(numbers: list[int], layer: int) -> str:
    """Return a sentence that lists the clusters of a layer; "" if it has none.

    Args:
        numbers: the cluster of each expert; -1 for an expert that belongs to none.
        layer: number of the layer.
    """
    members = [
        ", ".join(f"L{layer}E{expert}" for expert, own in enumerate(numbers) if own == number)
        for number in sorted(set(numbers) - {-1})
    ]
    count = "One cluster" if len(members) == 1 else f"{len(members):,} clusters"
    return f"**{count} of experts that are chosen together**: {'; '.join(members)} (derived)." if members else ""


def listed(at: xr.Dataset, layer: int, following: int | None) -> pd.DataFrame:
    """Return a table with a row per pair of a layer, or of two layers, the largest surplus first.

    Args:
        at: a layer of `coactivation` or `transitions`.
        layer: its number.
        following: number of the next MoE layer for transitions; None: pairs within the layer.
    """
    frame = at.drop_vars("moe_layer").to_dataframe().reset_index()
    other = "next_expert" if following is not None else "other_expert"
    if following is None:
        frame = frame[frame["expert"] < frame[other]]
    excess = np.array(frame["excess"].tolist())
    frame = frame.iloc[np.argsort(-excess, kind="stable")[: np.count_nonzero(~np.isnan(excess))]]
    tested, survives = frame["q"].notna(), frame["survives"].astype(bool)
    target = layer if following is None else following
    return pd.DataFrame(
        {
            "expert": [f"L{layer}E{number}" for number in frame["expert"]],
            "with": [f"L{target}E{number}" for number in frame[other]],
            "verdict": np.where(survives, "survives", np.where(tested, "may be chance, or small", "too few documents")),
            "beyond forced (log2)": frame["excess"].to_numpy(),
            "low (95 %)": frame["low"].to_numpy(),
            "high (95 %)": frame["high"].to_numpy(),
            "PMI": frame["pmi"].to_numpy(),
            "forced": frame["forced"].to_numpy(),
            "q": frame["q"].to_numpy(),
            "tokens": frame["tokens"].to_numpy(),
        }
    )


def _map(sweep: Sweep, at: xr.Dataset, axes: tuple[str, str], documents: int) -> go.Figure:
    values = np.where(np.isfinite(at["q"].values), at["excess"].values, np.nan)
    return figures.pair_map(
        values, at["survives"].values.astype(bool), _texts(at), rule_of(sweep), session.theme(), axes,
        f"times as often as forced, n = {documents:,} documents",
    )  # fmt: skip


def _texts(at: xr.Dataset) -> np.ndarray:
    names = ("excess", "low", "high", "q", "tokens")
    cells = zip(*(at[name].values.ravel().tolist() for name in names), strict=True)
    experts = at.sizes["expert"]
    texts = [
        f"E{index // experts} with E{index % experts}<br>{2**excess:.3g} × as often as forced (95 %: {2**low:.3g} to "
        f"{2**high:.3g})<br>{tokens:,} tokens choose both; q = {q:.2g} (derived)"
        for index, (excess, low, high, q, tokens) in enumerate(cells)
    ]
    return np.array(texts, object).reshape(experts, -1)


def _next(sweep: Sweep, layer: int) -> None:
    """Draw which experts of the next MoE layer follow the experts of this one."""
    found = derived(sweep, "transitions", lambda: transitions(sweep))
    if found is None or layer == sweep.layers[-1]:
        return
    following = sweep.layers[sweep.layers.index(layer) + 1]
    at = found.sel(moe_layer=layer)
    st.markdown(f"**From L{layer} to L{following}**: which experts the same tokens choose next.")
    figure = _map(sweep, at, (f"expert, L{layer}", f"expert, L{following}"), found.attrs["documents"])
    how_to_read = (
        f"How often the tokens of an expert of L{layer} choose an expert of L{following}, as a multiple of what "
        "independent layers would give; nothing is forced between layers. Colours and greys as in the map above."
    )
    controls.chart(figure, "atlas-next", listed(at, layer, following).head(MOST), how_to_read, layer=layer)


def _alike(sweep: Sweep, layer: int) -> None:
    """List the pairs of experts of a layer that are most alike."""
    found = derived(sweep, "alike", lambda: likeness(sweep))
    table = similar(found.sel(moe_layer=layer), layer)
    if table.empty:
        return
    alike, floor, documents = (
        np.count_nonzero(table["alike"].to_numpy()),
        found.attrs["floor"],
        found.attrs["documents"],
    )
    st.markdown(
        f"**{alike:,} pairs of experts of L{layer} are alike**: chosen in the same documents of a domain and language, "
        f"with a correlation of at least {floor:g}, and by the same tokens. n = {documents:,} documents; derived. "
        "The most similar pairs:"
    )
    shown = table.head(MOST_ALIKE)
    st.dataframe(
        shown, hide_index=True, height="content" if len(shown) < 8 else 300, placeholder="", key="atlas-alike",
        column_config=tables.three_digits(shown),
    )  # fmt: skip
    st.caption(
        "Similarity: the correlation over documents of how far two experts' choices lie above what documents of the "
        "same domain and language give on average. Same tokens: the cosine of the counts of the tokens that chose each."
    )
    controls.download_table(table, "atlas-alike", layer)


def similar(at: xr.Dataset, layer: int) -> pd.DataFrame:
    """Return a table with a row per pair of a layer's experts, the most similar first."""
    pairs = [(i, j) for i in range(at.sizes["expert"]) for j in range(i + 1, at.sizes["expert"])]
    i, j = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    names = {"similarity": "similarity", "low": "low (95 %)", "high": "high (95 %)", "tokens": "same tokens"}
    columns = {label: at[name].values[i, j] for name, label in (names | {"alike": "alike"}).items()}
    table = pd.DataFrame(
        {"expert": [f"L{layer}E{number}" for number in i], "with": [f"L{layer}E{number}" for number in j]} | columns
    )
    similarity = at["similarity"].values[i, j]
    return table.iloc[np.argsort(-similarity, kind="stable")[: np.count_nonzero(np.isfinite(similarity))]]
