"""Texts of a sweep on the page: tables of tokens and of examples, and the way from an example to Explore."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from model.atlas.folder import Sweep
from pages.common import controls, models, opening, text
from pages.common.tables import SHARE, THREE
from viz.tokens import visible

EXPLORE = "explore"


def tokens(rows: pd.DataFrame, key: str) -> None:
    """List tokens with how often they chose an expert; a click on a row chooses its layer and expert.

    Args:
        rows: rows of the sweep's `tokens`, with the column `share`.
        key: widget key.
    """
    table = pd.DataFrame(
        {
            "expert": names(rows),
            "token": [visible(str(token).encode("utf-8", "surrogatepass")) for token in rows["text"]],
            "chose it": rows["c"].to_numpy(),
            "of": rows["total"].to_numpy(),
            "share": rows["share"].to_numpy(),
            "documents": rows["docs"].to_numpy(),
        }
    )
    _table(table, key, {"share": SHARE}, on_select=lambda: _choose(rows, key))
    controls.download_table(table, key)


def _choose(rows: pd.DataFrame, key: str) -> None:
    """Choose the layer and expert of the selected row. A callback."""
    for index in st.session_state[key]["selection"]["rows"]:
        controls.choose(layer=int(rows["layer"].iloc[index]), expert=int(rows["expert"].iloc[index]))


def examples(sweep: Sweep, rows: pd.DataFrame, key: str) -> None:
    """List short texts around tokens that chose an expert; the selected one, at first the first, opens in Explore.

    Args:
        sweep: the sweep of the rows.
        rows: rows of its `examples`, at least one.
        key: widget key.
    """
    sources = sweep.documents.set_index("doc_id")["source"].fillna("")
    table = pd.DataFrame({"expert": names(rows), "weight": rows["weight"].to_numpy() if "weight" in rows else None})
    for part in ("before", "token", "after"):
        table[part] = [" ".join(str(words).split("\n")) for words in rows[part]]
    table["source"] = sources.reindex(rows["doc_id"]).to_numpy()
    columns = {
        "before": st.column_config.TextColumn(alignment="right"),
        "token": st.column_config.TextColumn(width="small"),
        "weight": THREE,
    }
    event = _table(table.dropna(axis="columns", how="all"), key, columns, on_select="rerun")
    selected = event["selection"]["rows"] or [0]
    _example(sweep, rows.to_dict("records")[selected[0]], key)


def _example(sweep: Sweep, row: Mapping[Any, Any], key: str) -> None:
    """Draw a button that opens the text of an example in Explore."""
    words = "".join(str(row[part]) for part in ("before", "token", "after")).strip()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Open in Explore", key=f"{key}-open", icon=":material/open_in_new:", on_click=open_in_explore,
            args=(sweep, words, row["layer"], row["expert"]),
            help="Explore runs this excerpt alone. Without the text before it, some tokens take other experts.",
        )  # fmt: skip
        st.markdown(f"L{row['layer']}E{row['expert']}: “{text.plain(words, 160)}”")


def open_in_explore(sweep: Sweep, words: str, layer: int, expert: int) -> None:
    """Open Explore with a text, without new tokens, at a layer and an expert. A callback."""
    values = {"prompt": words, "new": "0", "layer": str(layer), "expert": str(expert)}
    if (name := str(sweep.manifest.model.get("name"))) in models.available():
        values["model"] = name
    opening.open_view(EXPLORE, values)


def names(rows: pd.DataFrame) -> list[str]:
    """Return the name of the expert of each row, such as `L3E17`."""
    return [f"L{layer}E{expert}" for layer, expert in zip(rows["layer"], rows["expert"], strict=True)]


def _table(table: pd.DataFrame, key: str, columns: dict[str, Any], on_select: Any) -> Any:
    return st.dataframe(
        table, hide_index=True, column_config=columns, height="content" if len(table) < 10 else 380, key=key,
        on_select=on_select, selection_mode="single-row", placeholder="",
    )  # fmt: skip
