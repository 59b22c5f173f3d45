"""What the Attention page says of the heads, figure by figure."""

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from model.run.request import RequestError
from model.trace import attention
from model.trace.trace import Trace
from pages.common import controls, heads, session
from pages.common.runs import Run
from viz import attention as maps
from viz import heads as numbers
from viz.tokens import token_labels

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


def big(run: Run, layer: int, head: int, token: int) -> None:
    """One head, large."""
    trace, weights = heads.trace_of(run), heads.weights(run, layer, head)
    source = heads.origin(trace, layer, head)
    title = f"layer {layer}, head {head}: {source}, n = {trace.num_tokens:,} tokens"
    figure = maps.attention_map(weights, session.theme(), labels(trace), source, token=token, title=title)
    said = "A row is a token that looks, a column a token that is looked at; darker (in the dark theme, brighter) is "
    said += "more. A row adds up to 1. A click chooses the row's token; its row and column are framed. "
    said += f"The numbers are those of token {token}."
    controls.chart(figure, "attention-map", row_table(trace, token, attention=weights), said, _take_token)


def thumbnails(run: Run, layer: int, head: int, ranked: list[int], summary: xr.Dataset, sort: str) -> None:
    """All heads of the layer, small."""
    measure = SORTS[sort]
    values = summary[measure].sel(statistic="mean", head=ranked).values.tolist() if measure else None
    figure = maps.head_thumbnails(heads.overview(run, layer).small, session.theme(), ranked, head, values)
    said = "Every head of the layer, each on a scale of its own: where it looks, not how strongly. A click enlarges it."
    controls.chart(figure, "attention-heads", head_table(summary, ranked), said, chooses=("head",))


def looks_at(run: Run, layer: int, head: int, token: int) -> None:
    """The tokens that the chosen one looks at most."""
    trace = heads.trace_of(run)
    row = heads.weights(run, layer, head).isel(query=token, key=slice(token + 1))
    names, source = labels(trace), heads.origin(trace, layer, head)
    title = f"token {token}: {source}, n = {token + 1:,} tokens"
    figure = numbers.largest_weights(row, names, session.theme(), source, title=title)
    said = "The tokens that get most of the chosen token's attention in this head; all bars together are 1."
    controls.chart(figure, "attention-row", row_table(trace, token, attention=row), said)


def about(name: str, run: Run, layer: int, head: int, token: int, ranked: list[int], counted: xr.DataArray) -> None:
    """Fill the tab of that name."""
    queries = attention.choosing_queries(counted)
    try:
        if name == "Heads in numbers":
            in_numbers(run, layer, head, ranked, queries)
        elif name == "All layers":
            all_layers(run, layer, head, queries)
        elif name == "Rollout":
            rolled_out(run, layer, token)
        else:
            parts(run, layer, head, token)
    except RequestError as problem:
        st.info(str(problem), icon=":material/info:")


def in_numbers(run: Run, layer: int, head: int, ranked: list[int], queries: np.ndarray) -> None:
    """Entropy, share on the first token and distance of the layer's heads."""
    if not len(queries):
        st.info("No token that counts could choose where to look; the first one sees only itself.")
        return
    summary = attention.over_queries(heads.overview(run, layer).figures, queries)
    sinks = int((summary["first_token_share"].sel(statistic="mean") > 0.3).sum())
    st.caption(
        f"Derived; n = {len(queries):,} tokens that look. {sinks} of {len(ranked)} heads give the first token more "
        "than 0.3 of their attention."
    )
    figure = numbers.head_panels(summary, session.theme(), ranked, head)
    said = "Dots are means over the tokens, lines hold the middle eight tenths of them. Entropy 0 looks at one token, "
    said += "1 at all alike. A head with nothing to look for often rests on the first token."
    controls.chart(figure, "attention-numbers", head_table(summary, ranked), said, chooses=("head",))


def all_layers(run: Run, layer: int, head: int, queries: np.ndarray) -> None:
    """The same figures for every recorded layer."""
    if not heads.trace_of(run).has("attention"):
        raise RequestError("Attention was not recorded with this run, so only one layer is computed at a time.")
    means = attention.over_queries(heads.all_figures(run), queries).sel(statistic="mean")
    st.caption(f"Derived, recorded layers; n = {len(queries):,} tokens that look.")
    figure = numbers.layer_maps(means, session.theme(), (layer, head))
    said = "A row per layer, a column per head; stronger is more, from 0 to 1 or to the longest distance."
    table = means.drop_vars("statistic").to_dataframe().reset_index()
    controls.chart(figure, "attention-layers", table.rename(columns=_NAMES), said, chooses=("layer", "head"))


def rolled_out(run: Run, layer: int, token: int) -> None:
    """Attention followed through the layers."""
    trace, reached = heads.trace_of(run), heads.rollout(run, layer)
    title = f"rollout, layers 0 to {layer}: derived, n = {trace.num_tokens:,} tokens"
    figure = maps.rollout_map(reached, session.theme(), labels(trace), token=token, title=title)
    st.caption("Heads averaged, half of each step kept in place. It ignores the values and the feed-forward layers.")
    said = "How much of a column's token reaches a row's token when attention is followed through the layers. "
    said += f"The numbers are those of token {token}."
    controls.chart(figure, "attention-rollout", row_table(trace, token, rollout=reached), said, _take_rollout)


def parts(run: Run, layer: int, head: int, token: int) -> None:
    """A head's score before the softmax, as its two terms."""
    trace, (content, position) = heads.trace_of(run), heads.score_parts(run, layer, head)
    st.caption(
        f"Derived from layer {layer}'s recorded input with the model's weights; n = {trace.num_tokens:,} tokens. "
        "The two parts add up to the score, and the softmax of the scores is the attention."
    )
    limit, theme, names = maps.score_limit(content, position), session.theme(), labels(trace)
    said = "Purple raises a score, green lowers it, both parts on one scale. The position part carries the distance, "
    said += f"and depends on the words too. The numbers are those of token {token}."
    table = row_table(trace, token, content=content, position=position, score=content + position)
    sides = zip(st.columns(2), (("content", content), ("position", position)), strict=True)
    for side, (name, part) in sides:
        figure = maps.score_map(part, theme, limit, names, token=token, title=f"{name} part")
        with side:
            controls.chart(figure, f"attention-{name}", table, said)
    by_distance = {
        name: attention.mean_by_distance(part) for name, part in (("content", content), ("position", position))
    }
    table = pd.DataFrame({"tokens back": range(trace.num_tokens)} | {key: by.values for key, by in by_distance.items()})
    said = "The mean of each part over all pairs that lie equally far apart."
    controls.chart(numbers.score_by_distance(by_distance, theme), "attention-distance", table, said)


_NAMES = {"entropy": "entropy (share of max)", "first_token_share": "share on first token",
          "mean_distance": "mean distance (tokens)", "attention_layer": "layer"}  # fmt: skip


def labels(trace: Trace) -> list[str]:
    """The tokens as axes name them."""
    return token_labels(trace.tokens, trace.text)


def row_table(trace: Trace, token: int, **values: xr.DataArray) -> pd.DataFrame:
    """What one token sees: a row per key."""
    keys = range(token + 1)
    names = controls.token_names(trace)[: token + 1]
    rows = {name: part.isel(query=token) if "query" in part.dims else part for name, part in values.items()}
    return pd.DataFrame({"key": keys, "text": names} | {name: row.values[: token + 1] for name, row in rows.items()})


def head_table(summary: xr.Dataset, ranked: list[int]) -> pd.DataFrame:
    """A row per head, in the order shown: the means over the tokens that count."""
    means = summary.sel(statistic="mean", head=ranked)
    return pd.DataFrame({"head": ranked} | {_NAMES[str(name)]: part.values for name, part in means.data_vars.items()})


def _clicked(key: str) -> list[float]:
    """What the clicked point carries; empty when a click released it."""
    points = (st.session_state.get(key) or {}).get("selection", {}).get("points") or []
    found = points[0].get("customdata") if points else None
    return list(found.values() if isinstance(found, dict) else found or [])


def _choose_token(key: str) -> None:
    if clicked := _clicked(key):
        chosen = int(clicked[0])
        controls.choose(token=None if chosen == st.session_state.get("token") else chosen)


def _take_token() -> None:
    _choose_token("attention-map")


def _take_rollout() -> None:
    _choose_token("attention-rollout")
