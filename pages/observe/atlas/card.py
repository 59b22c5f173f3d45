"""The tab of one expert: its labels, kinds of token and positions with intervals, its tokens and its texts."""

import html
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from model.atlas.folder import Sweep
from model.atlas.lift import REASONS
from model.atlas.position import position_share
from model.atlas.rule import rule_of
from model.atlas.schema import NUM_FIRST, TOKEN_CLASSES
from model.atlas.search import examples_of, tokens_of
from model.atlas.share import share
from model.trace.derived import derived
from pages.common import controls, session
from pages.observe.atlas import purpose, tables, texts
from viz import atlas as figures
from viz.theme import expert_color

CLASSES = {
    "special": "special tokens",
    "first": f"first {NUM_FIRST} tokens",
    "keyword": "keywords of code",
    "space": "white space",
    "digit": "digits",
    "punctuation": "punctuation",
    "other_script": "other scripts",
    "word_start": "starts of words",
    "word_inside": "insides of words",
}


def show(sweep: Sweep, kind: str | None, layer: int, expert: int) -> None:
    """Draw the tab."""
    st.markdown(
        load(sweep, layer, expert) + ("" if kind is None else f" {purpose.sentence(sweep, kind, layer, expert)}")
    )
    left, right = st.columns(2)
    with left:
        if kind is not None:
            _labels(sweep, kind, layer, expert)
    with right:
        _classes(sweep, layer, expert)
    _positions(sweep, layer, expert)
    _tokens(sweep, layer, expert)
    _examples(sweep, layer, expert)


def load(sweep: Sweep, layer: int, expert: int) -> str:
    """Return a sentence on the expert's share of all selections in the corpus, or that it is dead there."""
    at = _share(sweep, "all").sel(moe_layer=layer, expert=expert)
    name, documents = f"L{layer}E{expert}", int(at["documents"])
    if bool(at["dead"]):
        return f"**{name} is dead in this corpus**: none of n = {documents:,} documents choose it."
    interval = _interval(float(at["low"]), float(at["high"]))
    return (
        f"**{name}** takes {float(at['share']):.3g} of the layer's choices{interval}, {float(at['ratio']):.3g} times "
        f"a fair share; {int(at['hit']):,} of n = {documents:,} documents choose it (derived)."
    )


def _interval(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" (95 %: {low:.3g} to {high:.3g})"


def _share(sweep: Sweep, token_class: str, kind: str | None = None) -> xr.Dataset:
    return derived(sweep, ("share", token_class, kind), lambda: share(sweep, kind, token_class))


def _labels(sweep: Sweep, kind: str, layer: int, expert: int) -> None:
    """Draw the expert's share of each label's tokens, the largest share first."""
    at = _share(sweep, "all", kind).sel(moe_layer=layer, expert=expert)
    lifted = tables.lifts(purpose.lifts(sweep, kind).sel(moe_layer=layer, expert=expert).expand_dims("expert"))
    frame = _frame(at, at["label"].values.tolist()).assign(verdict=lifted["verdict"].to_numpy())
    frame = frame.sort_values("share", ascending=False, kind="stable")
    how_to_read = (
        f"The expert's share of the choices in documents of each {kind}, with its 95 % interval over documents. The "
        "dashed line is its share in the whole corpus. A row has a colour if the expert's lift survives the tests of "
        "the map; other rows are grey. Rows of fewer than 20 documents have no interval."
    )
    _rows(sweep, frame, layer, expert, "atlas-labels", f"share by {kind}", how_to_read)


def _classes(sweep: Sweep, layer: int, expert: int) -> None:
    """Draw the expert's share of each class of tokens."""
    known = [name for name in TOKEN_CLASSES if name in set(sweep.strata["token_class"]) and name in CLASSES]
    if not known:
        st.info("This sweep does not tell classes of tokens apart.")
        return
    parts = [_frame(_share(sweep, name).sel(moe_layer=layer, expert=expert), [CLASSES[name]]) for name in known]
    frame = pd.concat(parts, ignore_index=True).assign(verdict=REASONS[0])
    how_to_read = (
        "The expert's share of the choices by each class of token, with its 95 % interval over documents. The dashed "
        "line is its share of all tokens. No test is made here; the intervals say how sure a share is. Each token is "
        "in one class, the first that fits in the order of the rows."
    )
    _rows(sweep, frame, layer, expert, "atlas-classes", "share by class of token", how_to_read)


def _frame(at: xr.Dataset, names: list[str]) -> pd.DataFrame:
    columns = {"share": "share", "low (95 %)": "low", "high (95 %)": "high", "documents": "documents"}
    return pd.DataFrame(
        {"name": names} | {name: np.atleast_1d(at[variable].values) for name, variable in columns.items()}
    )


def _rows(sweep: Sweep, frame: pd.DataFrame, layer: int, expert: int, key: str, axis: str, how_to_read: str) -> None:
    overall = float(_share(sweep, "all")["share"].sel(moe_layer=layer, expert=expert))
    records = frame.to_dict("records")
    names = [f"{row['name']} (n = {row['documents']:,})" for row in records]
    figure = figures.share_rows(
        names, frame["share"].to_numpy(), frame[["low (95 %)", "high (95 %)"]].to_numpy(),
        (frame["verdict"] == REASONS[0]).to_numpy(), [_hover(row) for row in records], overall,
        expert_color(expert, rule_of(sweep), session.theme()), session.theme(), axis,
    )  # fmt: skip
    controls.chart(figure, key, frame, how_to_read, layer=layer)


def _hover(row: dict[Any, Any]) -> str:
    name, documents = html.escape(str(row["name"])), f"n = {row['documents']:,} documents"
    if pd.isna(row["share"]):
        return f"{name}<br>{documents}, too few for a share"
    return f"{name}<br>{row['share']:.3g}{_interval(row['low (95 %)'], row['high (95 %)'])}<br>{documents} (derived)"


def _positions(sweep: Sweep, layer: int, expert: int) -> None:
    """Draw the expert's share by position in the document."""
    found = derived(sweep, "position", lambda: position_share(sweep))
    if found is None:
        return
    at = found.sel(moe_layer=layer, expert=expert)
    names = [f"{first:,}" for first in at["first"].values.tolist()]
    frame = _frame(at, names)
    overall = float(_share(sweep, "all")["share"].sel(moe_layer=layer, expert=expert))
    figure = figures.share_profile(
        names, frame["share"].to_numpy(), frame[["low (95 %)", "high (95 %)"]].to_numpy(), overall,
        [_hover(row | {"name": f"from position {row['name']}"}) for row in frame.to_dict("records")],
        expert_color(expert, rule_of(sweep), session.theme()), session.theme(), "position in the document, from",
    )  # fmt: skip
    how_to_read = (
        "The expert's share of the choices by the position of the token in its document. A point covers the positions "
        "from its own to the next point; position 0 is the beginning of the sequence. Points of fewer than 20 "
        "documents are left out. Bars are 95 % intervals over documents, the dashed line is the share of all tokens."
    )
    controls.chart(figure, "atlas-positions", frame, how_to_read, layer=layer)


def _tokens(sweep: Sweep, layer: int, expert: int) -> None:
    rows = tokens_of(sweep, layer, expert)
    if rows is None:
        st.info("This sweep does not hold the tokens of each expert.")
    elif len(rows):
        st.markdown(
            f"**Tokens** that chose L{layer}E{expert} most often, and how often of all their occurrences (measured)."
        )
        texts.tokens(rows, "atlas-tokens")


def _examples(sweep: Sweep, layer: int, expert: int) -> None:
    rows = examples_of(sweep, layer, expert)
    if rows is None:
        st.info("This sweep holds no texts; `--keep examples` keeps some.")
    elif len(rows):
        st.markdown(
            f"**Texts** with a token that chose L{layer}E{expert}, the largest weight first, at most one per document "
            "(measured). Select a row, then open it in Explore."
        )
        texts.examples(sweep, rows, "atlas-texts")
