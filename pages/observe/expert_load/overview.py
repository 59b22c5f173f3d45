"""The overview above the tabs: whether the load is even, in words and as a map."""

import streamlit as st
import xarray as xr

from model.trace import load as loads
from model.trace.derived import derived
from model.trace.load import Load
from model.trace.trace import Trace
from pages.common import controls, session, text
from pages.observe.expert_load import tables
from viz import load as figures


def remarks(trace: Trace, load: Load) -> None:
    """Show a note if the run had interventions, and a note on tokens that are not counted."""
    edits = text.edits(trace)
    if edits:
        st.info(
            f"This run was changed: {', '.join(edits)}. The bounds of chance are those of a router without this change."
        )
    if load.idle_from is not None:
        is_single = load.idle_from == load.rule.num_experts - 1
        who = f"E{load.idle_from} computes" if is_single else f"Experts from E{load.idle_from} on compute"
        st.info(
            f"{who} nothing: a token that makes this choice skips an expert. The page counts it like a choice of an "
            f"expert; {load.idle_share:.1%} of the choices are of this kind. The Devices tab leaves them out."
        )
    if load.num_unknown:
        st.caption(f"Not counted: {load.num_unknown:,} tokens whose experts the trace does not hold.")


def nothing_counted(load: Load) -> None:
    """Show a message that no token is of the chosen kind."""
    if load.num_unknown:
        st.info(f"The trace does not hold the experts of these {load.num_unknown:,} tokens. Choose other tokens above.")
    else:
        st.info("No token of this run is of that kind, so there is no load to show. Choose other tokens above.")


def verdict(load: Load) -> str:
    """Return a few sentences on whether the load is even."""
    if load.band is None:
        return "The trace does not say how its model routes, so the bounds of chance are unknown."
    layers = load.counts.sizes["moe_layer"]
    words = (
        f"**In {load.num_uneven} of {layers} layers the busiest expert carries more than chance explains.** "
        f"{load.num_outside:,} of {load.counts.size:,} experts have a load that chance does not explain: in 95 % of "
        f"layers, fair routing of {load.num_tokens:,} tokens gives no expert such a high or low load."
    )
    return words if load.num_tokens >= load.fewest else f"{words} {_too_few(load)}"


def _too_few(load: Load) -> str:
    assert load.band is not None
    return (
        f"An expert without a token says little here: with {load.num_tokens:,} tokens, fair routing leaves about "
        f"{load.band.dead:.2g} of a layer's {load.rule.num_experts} experts without one. From {load.fewest} tokens "
        "on, chance no longer explains an idle expert."
    )


def heat_map(load: Load) -> None:
    """Draw the map of the load of every expert of every layer."""
    look = session.theme()
    figure = derived(load, ("map", look), lambda: figures.load_heatmap(load.ratio, load.rule, look, load.band))
    gaps = ", with gaps between groups" if load.rule.num_groups > 1 else ""
    how_to_read = (
        f"A row per MoE layer, the first at the bottom; a column per expert{gaps}. 1 is a fair "
        "share of the tokens, orange is more, blue less. A dot marks a load that chance alone does not explain; "
        f"in 95 % of fair layers there is none. {text.fair(load.rule)} A load beyond chance need not be a fault: "
        "a text of one kind uses some experts more than others. Click a cell to choose its layer and expert. "
        "Counts are measured, ratios and the bounds of chance derived."
    )
    table = derived(load, "table", lambda: tables.by_layer_and_expert(load))
    controls.chart(figure, "load", table, how_to_read, chooses=("layer", "expert"))


def worst(load: Load, number: int = 3) -> str:
    """Return the `number` layers with the least even load, as Markdown, and the time that their imbalance costs."""
    layers, measures = load.least_even[:number], derived(load, "layers", lambda: loads.by_layer(load))
    ratio = 1 + float(load.violation.sel(moe_layer=layers[0]))
    cost = (
        f"A layer waits for its busiest expert. With one expert per device, L{layers[0]} would take {ratio:.3g} times "
        "as long on these tokens as with an even load. Training evens the load over many texts together, not within a "
        "single one."
    )
    rows = [_about_layer(load, layer, measures) for layer in layers]
    if load.idle_from is not None:
        cost = "Nothing waits for the experts that compute nothing, so the page gives no time that imbalance costs."
    heading = "The least even layers (MaxVio: the busiest expert's load in fair shares, minus 1):"
    return "\n".join([heading, *(f"- {row}" for row in rows), "", cost])


def _about_layer(load: Load, layer: int, measures: xr.Dataset) -> str:
    at, band = measures.sel(moe_layer=layer), load.band
    busiest, most, dead = (int(at[name]) for name in ("busiest", "most", "dead"))
    ratio = float(at["largest_ratio"])
    reach = "" if band is None else f"; chance alone gives at most {band.max_violation:.3g} in 95 % of layers"
    left_out = (
        "" if band is None else f" (chance alone leaves out {f'up to {band.num_dead}' if band.num_dead else 'none'})"
    )
    return (
        f"**L{layer}**: E{busiest} took {most:,} of {load.num_tokens:,} tokens, {ratio:.3g} times a fair share "
        f"(MaxVio {ratio - 1:.3g}{reach}). {dead} of {load.computing.sizes['expert']} experts took none{left_out}."
    )
