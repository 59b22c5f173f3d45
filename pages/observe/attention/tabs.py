"""What the Attention page says of the heads, figure by figure."""

import numpy as np
import streamlit as st
import xarray as xr

from model.run.request import RequestError
from model.trace import attention, cells
from pages.common import controls, heads, session, text
from pages.common.head_tables import NAMES, head_table, labels, row_table
from pages.common.runs import Run
from pages.observe.attention import head_map, parts
from pages.observe.attention import values as head_values
from pages.observe.attention.head_map import Shown
from viz import attention as maps
from viz import heads as numbers
from viz.thumbnails import head_thumbnails

SORTS = {"index": None, "entropy": "entropy", "first token": "first_token_share", "distance": "mean_distance"}
TABS = ["Heads in numbers", "All layers", "Rollout", "Content and position"]


def order(summary: xr.Dataset, sort: str) -> list[int]:
    """Head numbers as asked: sharpest first, largest share first, farthest first."""
    measure = SORTS[sort]
    if measure is None:
        return summary["head"].values.tolist()
    means = summary[measure].sel(statistic="mean").values
    ranked = np.argsort(means if measure == "entropy" else -means, kind="stable")
    return summary["head"].values[ranked].tolist()


def thumbnails(run: Run, shown: Shown, ranked: list[int], summary: xr.Dataset, sort: str) -> None:
    """All heads of the layer, small."""
    measure, small = SORTS[sort], head_values.overview(run, shown.layer).small
    values = summary[measure].sel(statistic="mean", head=ranked).values.tolist() if measure else None
    figure = head_thumbnails(small, session.theme(), ranked, shown.head, values)
    said = "Every head of the layer, each on a scale of its own: where it looks, not how strongly. A click enlarges it."
    controls.chart(figure, "attention-heads", head_table(summary, ranked), said, chooses=("head",))


def looks_at(run: Run, shown: Shown) -> None:
    """The tokens that the chosen one looks at most."""
    trace, token = heads.trace_of(run), shown.token
    row = head_values.row(run, shown.layer, shown.head, token)
    names, source = labels(trace), heads.origin(trace, shown.layer, shown.head)
    title = f"token {token}: {source}, n = {token + 1:,} tokens"
    figure = numbers.largest_weights(row, names, session.theme(), source, title=title)
    said = "The tokens that get most of the chosen token's attention in this head; all bars together are 1."
    controls.chart(figure, "attention-row", row_table(trace, token, attention=row), said)


def about(name: str, run: Run, shown: Shown, ranked: list[int], counted: xr.DataArray) -> None:
    """Fill the tab of that name."""
    queries = attention.choosing_queries(counted)
    try:
        if name == "Heads in numbers":
            in_numbers(run, shown, ranked, queries)
        elif name == "All layers":
            all_layers(run, shown, queries)
        elif name == "Rollout":
            rolled_out(run, shown)
        else:
            parts.parts(run, shown)
    except RequestError as problem:
        st.info(text.message(problem), icon=":material/info:")
    if name == "Content and position":
        parts.cache(heads.trace_of(run))


def in_numbers(run: Run, shown: Shown, ranked: list[int], queries: np.ndarray) -> None:
    """Entropy, share on the first token and distance of the layer's heads."""
    if not len(queries):
        st.info("No token that counts could choose where to look; the first one sees only itself.")
        return
    summary = attention.over_queries(head_values.overview(run, shown.layer).figures, queries)
    sinks = int((summary["first_token_share"].sel(statistic="mean") > 0.3).sum())
    st.caption(
        f"Derived; n = {len(queries):,} tokens that look. {sinks} of {len(ranked)} heads give the first token more "
        "than 0.3 of their attention."
    )
    figure = numbers.head_panels(summary, session.theme(), ranked, shown.head)
    said = "Dots are means over the tokens, lines hold the middle eight tenths of them. Entropy 0 looks at one token, "
    said += "1 at all alike. A head with nothing to look for often rests on the first token."
    controls.chart(figure, "attention-numbers", head_table(summary, ranked), said, chooses=("head",))


def all_layers(run: Run, shown: Shown, queries: np.ndarray) -> None:
    """The same figures for every recorded layer."""
    if not heads.trace_of(run).has("attention"):
        raise RequestError("Attention was not recorded with this run, so only one layer is computed at a time.")
    means = attention.over_queries(head_values.all_figures(run), queries).sel(statistic="mean")
    st.caption(f"Derived, recorded layers; n = {len(queries):,} tokens that look.")
    figure = numbers.layer_maps(means, session.theme(), (shown.layer, shown.head))
    said = "A row per layer, a column per head; stronger is more, from 0 to 1 or to the longest distance."
    table = means.drop_vars("statistic").to_dataframe().reset_index()
    controls.chart(figure, "attention-layers", table.rename(columns=NAMES), said, chooses=("layer", "head"))


def rolled_out(run: Run, shown: Shown) -> None:
    """Attention followed through the layers."""
    trace, reached = heads.trace_of(run), head_values.rollout(run, shown.layer)
    title = f"rollout, layers 0 to {shown.layer}: derived, n = {trace.num_tokens:,} tokens"
    seen, names = cells.cells(reached, shown.window)[shown.of_cell], labels(trace)
    figure = maps.rollout_map(seen, session.theme(), names, token=shown.token, title=title, of_cell=shown.of_cell)
    st.caption("Heads averaged, half of each step kept in place. It ignores the values and the feed-forward layers.")
    said = "How much of a column's token reaches a row's token when attention is followed through the layers. "
    said += f"The numbers are those of token {shown.token}."
    table = row_table(trace, shown.token, rollout=reached.isel(query=shown.token))
    head_map.show(figure, "attention-rollout", shown.window, table, said)
