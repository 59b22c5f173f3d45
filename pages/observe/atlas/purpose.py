"""What each expert is for: the lift of every expert by label, in words and as a map."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from model.atlas.folder import Sweep
from model.atlas.lift import REASONS, specialists
from model.atlas.rule import rule_of
from model.atlas.strongest import strongest, tally
from model.trace.derived import derived
from model.trace.documents import FEW
from pages.common import controls, session, text
from pages.observe.atlas import tables
from pages.observe.atlas.choices import ANY, BY_LABEL
from viz import atlas as figures

MOST_LABELS, MOST_EXPERTS = 10, 6  # of the list below the map


def lifts(sweep: Sweep, kind: str) -> xr.Dataset:
    """Return the lift of every expert by label, computed once per sweep and kind of label."""
    return derived(sweep, ("lift", kind), lambda: specialists(sweep, kind))


def best(sweep: Sweep, kind: str) -> xr.Dataset:
    """Return for every expert the label that it serves most."""
    return derived(sweep, ("strongest", kind), lambda: strongest(lifts(sweep, kind)))


def verdict(sweep: Sweep, kind: str) -> str:
    """Return a few sentences on how many experts are specialists, and for which labels."""
    found, numbers = lifts(sweep, kind), tally(lifts(sweep, kind))
    serving = best(sweep, kind)["serves"].values
    documents = sum(found["documents"].values.tolist())
    words = (
        f"**{np.count_nonzero(serving != ''):,} of {serving.size:,} experts are specialists for a {kind}**: documents "
        "with that label choose them at least twice as often as all others do, more than chance explains"
    )
    words += ", and without any single source too. " if found.attrs["sources_checked"] else ". "
    if len(numbers):
        most = [f"{text.plain(name, 40)} ({number})" for name, number in numbers.head(5).items()]
        words += f"Most experts: {', '.join(most)}. "
    blank = [text.plain(name, 40) for name in _unjudged(found)]
    if blank:
        words += f"Not judged, because fewer than 20 documents have the label: {', '.join(blank)}. "
    if few := [text.plain(name, 40) for name in _few(found) if name in numbers.index]:
        words += f"Fewer than {FEW} documents, so intervals are somewhat too narrow: {', '.join(few)}. "
    return f"{words}n = {documents:,} documents; derived."


def _few(found: xr.Dataset) -> list[str]:
    return [name for name, few in zip(found["label"].values.tolist(), found["few"].values.tolist(), strict=True) if few]


def _unjudged(found: xr.Dataset) -> list[str]:
    tests = [np.count_nonzero(np.isfinite(at)) for at in found["q"].values]
    return [name for name, number in zip(found["label"].values.tolist(), tests, strict=True) if number == 0]


def by_label(sweep: Sweep, kind: str) -> str:
    """Return a list of the specialists of each label, the largest lift first, as Markdown."""
    return derived(sweep, ("by label", kind), lambda: _by_label(sweep, kind))


def _by_label(sweep: Sweep, kind: str) -> str:
    table = tables.lifts(lifts(sweep, kind))
    called = table.loc[(table["verdict"] == REASONS[0]) & (table["lift (log2)"] > 0)]
    lines = []
    for label, number in list(tally(lifts(sweep, kind)).items())[:MOST_LABELS]:
        rows = called.loc[called["label"] == label].sort_values(by="lift (log2)", ascending=False)
        experts = [
            f"{row['expert']} × {2 ** row['lift (log2)']:.2g}" for row in rows.head(MOST_EXPERTS).to_dict("records")
        ]
        more = f", and {number - MOST_EXPERTS} more" if number > MOST_EXPERTS else ""
        lines.append(f"- **{text.plain(label, 40)}** (n = {rows['documents'].iloc[0]:,}): {', '.join(experts)}{more}")
    return "\n".join(lines)


def sentence(sweep: Sweep, kind: str, layer: int, expert: int) -> str:
    """Return a sentence on the labels of which an expert is a specialist."""
    table = tables.lifts(lifts(sweep, kind).sel(moe_layer=[layer], expert=[expert]))
    called = table.loc[table["verdict"] == REASONS[0]].sort_values(by="lift (log2)", ascending=False)
    if called.empty:
        return f"It is no specialist for a {kind}: no lift survives the tests."
    rows = called.to_dict("records")
    parts = [f"**{text.plain(row['label'], 40)}** {tables.factor(row)}, n = {row['documents']:,}" for row in rows]
    return f"Lifts that survive the tests: {'; '.join(parts)}."


def lift_map(sweep: Sweep, kind: str, label: str, rows: str, layer: int) -> None:
    """Draw the map of lift: layers x experts for a label, or labels x experts for a layer."""
    look = session.theme()
    if rows == BY_LABEL:
        at, names = lifts(sweep, kind).sel(moe_layer=layer), lifts(sweep, kind)["label"].values.tolist()
        key, layers = ("lift-map", kind, rows, layer, look), np.full(len(names), layer)
    else:
        at = best(sweep, kind) if label == ANY else lifts(sweep, kind).sel(label=label)
        names, layers = [f"L{number}" for number in sweep.layers], np.array(sweep.layers)
        key = ("lift-map", kind, rows, label, look)

    def draw() -> tuple[go.Figure, pd.DataFrame]:
        table = tables.lifts(at)
        texts = np.array(tables.hover(table, kind), object).reshape(at["lift"].shape)
        words = f"{'any' if label == ANY else label} {kind}" if rows != BY_LABEL else f"layer {layer}"
        figure = figures.judged_map(
            at["lift"].values, at["survives"].values, texts, names, layers, rule_of(sweep), look, "× elsewhere",
            words=f"{words}; grey: may be chance, small, or one source",
        )  # fmt: skip
        return figure, table

    figure, table = derived(sweep, key, draw)
    controls.chart(figure, "atlas-lift", table, _how_to_read(sweep), chooses=("layer", "expert"))


def _how_to_read(sweep: Sweep) -> str:
    gaps = ", with gaps between groups" if rule_of(sweep).num_groups > 1 else ""
    return (
        f"A row per layer or per label, a column per expert{gaps}. The colour is lift: how many times as often "
        "documents of the label choose the expert as all other documents do; orange is more, blue less. Only a lift "
        "that survives four tests has a colour: at least 20 documents, at most 5 % false discoveries over all "
        "experts and labels (Benjamini-Hochberg), at least a factor of 2, and all of it also without any one source. "
        "Grey: it does not. Blank: too few documents. For any label, the map shows the label that an expert serves "
        "most. Intervals are over documents. Click a cell to choose its layer and expert."
    )
