"""The tab of one expert: its load, its tokens in context, and its share of each kind of token."""

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from model.trace import chance, metrics, routing
from model.trace.observed_rule import rule_of
from model.trace.router_rule import RouterRule
from model.trace.trace import Trace
from pages.common import controls, session, text
from pages.common.tables import THREE
from pages.observe.routing import expert_tokens
from viz import expert as figures
from viz.theme import expert_color


def show(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> None:
    """Draw the tab of one expert, for the tokens in `mask`, [token] bool."""
    taken = expert_tokens.taken_by(trace, layer, expert, mask)
    _numbers(trace, layer, expert, mask)
    if taken.empty:
        _without_tokens(trace, layer, expert, mask)
        return
    color = expert_color(expert, rule_of(trace), session.theme())
    left, right = st.columns(2)
    with right:
        height = _kinds(trace, layer, expert_tokens.shares(trace, layer, expert, mask), color)
    with left:
        _weights(rule_of(trace), layer, taken, color, height)
    st.caption(
        f"The {len(taken):,} tokens that went to L{layer}E{expert}, in context. Click a row to choose its token."
    )
    _contexts(taken, f"routing-tokens-L{layer}E{expert}")


def _numbers(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> None:
    ids, rule = trace.data["expert_id"].sel(moe_layer=[layer]), rule_of(trace)
    counts = metrics.tokens_per_expert(ids, rule.num_experts, mask).isel(moe_layer=0)
    ratio, total = float(metrics.relative_load(counts)[expert]), int(np.count_nonzero(mask))
    columns = st.columns(4)
    columns[0].metric(f"Tokens of L{layer}E{expert}", f"{int(counts[expert]):,} of {total:,}", help="Measured.")
    meaning = f"The expert's tokens divided by a fair share; 1 is fair. Derived; n = {total:,} tokens."
    columns[1].metric("Load", f"{ratio:.3g} × uniform", help=meaning)
    if trace.has("expert_bias"):
        bias = routing.relative_bias(trace.data["expert_bias"]).sel(moe_layer=layer)[expert]
        meaning = "The expert's bias minus the layer's mean bias; a positive value sends it more tokens. Derived."
        columns[2].metric("Bias - mean", f"{float(bias):+.2g}", help=meaning)
    if trace.has("group_kept"):
        group = rule.group_of(expert)
        kept = int(np.count_nonzero(trace.data["group_kept"].sel(moe_layer=layer).values[mask.values, group]))
        low, high = routing.share_interval(kept, total)
        meaning = f"{kept:,} of {total:,} tokens kept its group {group}; in brackets the 95 % interval. Derived."
        columns[3].metric("Group kept", f"{kept / total:.0%} ({low:.0%} to {high:.0%})", help=meaning)


def _without_tokens(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> None:
    """Show whether chance explains that the expert got no token; list the tokens with the highest affinity to it."""
    total = int(np.count_nonzero(mask))
    st.info(f"None of these {total:,} tokens went to L{layer}E{expert}.{_by_chance(trace, total)}")
    if trace.has("router_score"):
        closest = expert_tokens.closest_to(trace, layer, expert, mask)
        st.caption("The tokens with the highest affinity to this expert, which went to other experts (measured).")
        _contexts(closest, f"routing-closest-L{layer}E{expert}")


def _by_chance(trace: Trace, num_tokens: int) -> str:
    """Return a sentence on how many experts a random router leaves without a token; empty if that is unknown."""
    rule = rule_of(trace)
    band = chance.band_of(rule, num_tokens)
    if band is None:
        return ""
    return (
        f" Fair routing of as many tokens would leave about {band.dead:.2g} of {rule.num_experts} experts without a "
        f"token. {text.fair(rule)} Derived."
    )


def _kinds(trace: Trace, layer: int, shares: pd.DataFrame, color: str) -> int:
    """Draw the expert's share of each kind of token; return the height of the figure in pixels."""
    taken, totals = shares["taken"].to_numpy(), shares["of"].to_numpy()
    bounds = shares[["low (95 %)", "high (95 %)"]].to_numpy()
    names = shares["tokens that are"].tolist()
    beyond, fair = shares["beyond chance"].to_numpy(), rule_of(trace).fair_share
    figure = figures.shares_by_kind(names, taken, totals, bounds, beyond, fair, color, session.theme())
    how_to_read = (
        "Of the tokens of each kind, the share that went to this expert, with its 95 % interval. The dashed line is "
        "a fair share. A grey row is explained by chance: under fair routing, all rows of an expert are grey in 95 % "
        "of cases. A token's kind is read off the token itself, because a trace does not state what its text is about. "
        "Derived."
    )
    height = int(figure.layout.height)  # pyright: ignore[reportAttributeAccessIssue] - Plotly adds it at run time
    controls.chart(figure, "routing-kinds", shares, how_to_read, layer=layer)
    return height


def _weights(rule: RouterRule, layer: int, taken: pd.DataFrame, color: str, height: int) -> None:
    if "weight" not in taken or not np.isfinite(taken["weight"].values).any():
        st.info("This trace holds which experts were chosen, but not their weights.")
        return
    weights, total = xr.DataArray(taken["weight"].values), _total(rule)
    figure = figures.weight_distribution(weights, color, session.theme(), height=height)
    how_to_read = (
        f"How strongly the expert's output counted for its tokens: a bar per range of gate weight. {total}In the "
        "table, rank is the expert's place in the trace's list of the token's experts, from 0. Measured."
    )
    twin = pd.DataFrame(taken, columns=["token", "text", "rank", "weight"])
    controls.chart(figure, "routing-weights", twin, how_to_read, layer=layer)


def _total(rule: RouterRule) -> str:
    """Return a sentence on the sum of a token's weights; empty if the rule does not fix it."""
    if not rule.normalise_weights or rule.routed_scale is None or rule.has_expert_factor:
        return ""
    return f"The weights of a token's experts sum to {rule.routed_scale:g}. "


def _contexts(rows: pd.DataFrame, key: str) -> None:
    """List tokens with their context; a click on a row chooses its token."""
    columns = {
        "before": st.column_config.TextColumn(alignment="right"),
        "text": st.column_config.TextColumn(width="small"),
        "affinity": THREE,
        "weight": THREE,
    }

    def choose() -> None:
        selected = st.session_state[key]["selection"]["rows"]
        if selected:
            controls.choose(token=int(rows["token"].iloc[selected[0]]))

    st.dataframe(
        rows, hide_index=True, column_config=columns, height="content" if len(rows) < 12 else 420, key=key,
        on_select=choose, selection_mode="single-row", placeholder="",
    )  # fmt: skip
    controls.download_table(rows, key)
