"""The tab of two sweeps side by side: which experts' shares moved, beyond chance."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from model.atlas.differences import differences, refusal
from model.atlas.folder import Sweep
from model.atlas.rule import rule_of
from model.trace.derived import derived
from pages.common import controls, session, text
from pages.observe.atlas import choices
from viz import atlas as figures

ALL = "all documents"


def show(sweep: Sweep, kind: str | None, layer: int, expert: int) -> None:
    """Draw the tab."""
    other = choices.other_sweep(sweep)
    if other is None:
        st.info("Only one sweep is installed; a second one, of another model or corpus, could be compared with it.")
        return
    reason = refusal(sweep, other)
    if reason is not None:
        st.info(text.sentence(reason))
        return
    same = kind if kind in choices.kinds(other) else None
    among, found = _moved(sweep, other, same)
    st.markdown(verdict(found, sweep.folder.name, other.folder.name))
    table = listed(found)
    texts = np.array([_hover(row) for row in table.to_dict("records")], object).reshape(found["change"].shape)
    figure = figures.judged_map(
        np.where(np.isfinite(found["q"].values), found["change"].values, np.nan), found["moved"].values, texts,
        [f"L{number}" for number in sweep.layers], np.array(sweep.layers), rule_of(sweep), session.theme(), "× before",
        changes=True, words=f"{among}; grey: not beyond chance, or small",
    )  # fmt: skip
    how_to_read = (
        "A row per layer, a column per expert: its share of the choices in the second sweep over that in the first, in "
        f"colour only if the change is beyond chance (5 % false discoveries) and at least a factor of "
        f"{2 ** found.attrs['floor']:.2g}. Purple: more in the second; green: less. Blank: too few documents. If both "
        "sweeps hold the same documents, each is compared with itself. Click a cell to choose its layer and expert."
    )
    controls.chart(figure, "atlas-moves", table, how_to_read, chooses=("layer", "expert"))


def _moved(sweep: Sweep, other: Sweep, kind: str | None) -> tuple[str, xr.Dataset]:
    """Draw the choice of a label, if both sweeps have some; return its name and the changes among its documents."""
    by_all = derived(sweep, ("moves", other.manifest.hash, None), lambda: differences(sweep, other))
    if kind is None:
        return ALL, by_all
    found = derived(sweep, ("moves", other.manifest.hash, kind), lambda: differences(sweep, other, kind))
    options = [ALL, *found["label"].values.tolist()]
    controls.keep_within("among", options)
    name = st.selectbox("Among", options, key="among", bind="query-params", width=220) or ALL
    return name, by_all if name == ALL else found.sel(label=name)


def verdict(found: xr.Dataset, before: str, after: str) -> str:
    """Return a sentence on how many shares moved, and how the documents were compared."""
    moved, cells = np.count_nonzero(found["moved"].values), found["moved"].size
    numbers = int(found["documents_before"]), int(found["documents_after"])
    if found.attrs["paired"]:
        how = f"n = {numbers[0]:,} documents that both sweeps hold, each compared with itself"
    else:
        how = f"n = {numbers[0]:,} and {numbers[1]:,} documents, compared as independent samples"
    return (
        f"**From {text.plain(before, 60)} to {text.plain(after, 60)}, the share of {moved:,} of {cells:,} experts "
        f"moved beyond chance**, by a factor of {2 ** found.attrs['floor']:.2g} or more. {how}; derived."
    )


def listed(found: xr.Dataset) -> pd.DataFrame:
    """Return a table with a row per layer and expert, in the order of the map."""
    names = {
        "before": "share before",
        "after": "share after",
        "change": "change (log2)",
        "low": "low (95 %)",
        "high": "high (95 %)",
        "q": "q",
        "moved": "moved",
    }
    layers, experts = (found[axis].values.tolist() for axis in ("moe_layer", "expert"))
    cells = {"expert": [f"L{layer}E{number}" for layer in layers for number in experts]}
    cells |= {label: found[name].transpose("moe_layer", "expert").values.ravel() for name, label in names.items()}
    sides = {f"documents {side}": int(found[f"documents_{side}"]) for side in ("before", "after")}
    return pd.DataFrame(cells | sides)


def _hover(row: dict[Any, Any]) -> str:
    shares = f"{row['share before']:.3g} → {row['share after']:.3g}"
    documents = f"n = {row['documents before']:,} and {row['documents after']:,} documents"
    if np.isnan(row["q"]):
        return f"{row['expert']}<br>{shares}<br>too few documents; {documents}"
    times, low, high = (2 ** row[name] for name in ("change (log2)", "low (95 %)", "high (95 %)"))
    word = "moved" if row["moved"] else "not beyond chance, or small"
    return (
        f"{row['expert']}: {shares}<br>{times:.3g} × (95 %: {low:.3g} to {high:.3g})<br>{word}; q = {row['q']:.2g}; "
        f"{documents} (derived)"
    )
