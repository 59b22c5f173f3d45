"""The tab of experts that share tokens: within a layer, and from one layer to the next."""

import numpy as np
import streamlit as st
import xarray as xr

from model.trace import routing
from model.trace.observed_rule import rule_of
from model.trace.trace import Trace
from pages.common import controls, session, text
from pages.observe.routing import tables
from viz import pairs as figures


def show(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> None:
    """Draw the tab of experts that share tokens, for the tokens in `mask`, [token] bool."""
    counted = trace.data["expert_id"].isel(token=np.flatnonzero(mask.values))
    left, right = st.columns(2)
    with left:
        _coactivation(trace, counted.sel(moe_layer=[layer]))
    if counted.sizes["moe_layer"] < 2:
        right.info("The trace holds one MoE layer, so there is no next one.")
        return
    counts = routing.transitions(counted, rule_of(trace).num_experts)
    with right:
        _transitions(trace, counts, layer)
    _graph(trace, counts, layer, expert)


def _coactivation(trace: Trace, counted: xr.DataArray) -> None:
    rule = rule_of(trace)
    counts = routing.shared_tokens(counted, rule.num_experts).isel(moe_layer=0)
    how_to_read = (
        "A row is an expert of this layer. A cell is the share of its tokens that also went to the column's expert. "
        "Derived. The table has each share's 95 % interval (Wilson, as if tokens were independent) and the share "
        f"under fair routing. {text.fair(rule)} Click a cell to choose the row's expert."
    )
    figure = figures.coactivation(counts, counted.sizes["token"], rule, session.theme())
    layer = int(counts["moe_layer"])
    controls.chart(
        figure, "routing-together", tables.pairs(counts, rule), how_to_read, chooses=("expert",), layer=layer
    )


def _transitions(trace: Trace, counts: xr.DataArray, layer: int) -> None:
    earlier = layer if layer in counts["moe_layer"] else int(counts["moe_layer"][-1])
    onward = counts.sel(moe_layer=earlier)
    how_to_read = (
        "A row is an expert of one MoE layer, a column an expert of the next. Each token pairs every expert it "
        "chose in this layer with every one in the next; a row shows where an expert's tokens go. Derived."
    )
    figure = figures.transitions(onward, rule_of(trace), session.theme())
    controls.chart(
        figure, "routing-onward", tables.transitions(onward), how_to_read, chooses=("expert",), layer=earlier
    )


def _graph(trace: Trace, counts: xr.DataArray, layer: int, expert: int) -> None:
    how_to_read = (
        "The most common steps from one MoE layer to the next. A wider line is more tokens; the lines of the chosen "
        "expert have the colour of the text. An expert with many lines is a hub, which the maps above do not show. "
        "Derived. Click an expert."
    )
    figure = figures.transition_graph(counts, rule_of(trace), session.theme(), focus=(layer, expert))
    table = tables.transitions(counts, 2)
    controls.chart(figure, "routing-graph", table, how_to_read, chooses=("layer", "expert"))
