"""What the page on expert load says and shows."""

import numpy as np
import streamlit as st

from model.trace import metrics
from model.trace.trace import Trace
from pages.common import controls, loads, routing_tables, session, tables
from pages.common.loads import Load
from pages.observe.expert_load import devices
from viz import load as figures

LAYER, BARS, GROUPS, DEVICES, NUMBERS = TABS = (
    "One layer",
    "All layers as bars",
    "Groups",
    "Devices",
    "Figures of every layer",
)


def remarks(trace: Trace, load: Load) -> None:
    """What a reader must know of this run before looking at the figures."""
    edits = routing_tables.edits(trace)
    if edits:
        said = "what chance alone gives is that of a router without this change"
        st.info(f"This run was changed: {', '.join(edits)}; {said}.")
    if load.num_unknown:
        st.caption(f"Not counted: {load.num_unknown:,} tokens whose experts the trace does not know.")


def nothing_counted(load: Load) -> None:
    """No token is of the kind that was asked for."""
    if load.num_unknown:
        st.info(f"The trace does not know the experts of these {load.num_unknown:,} tokens. Choose other tokens above.")
    else:
        st.info("No token of this run is of that kind, so there is no load to show. Choose other tokens above.")


# --- words -----------------------------------------------------------------------------------------------------------


def verdict(load: Load) -> str:
    """Whether the work is shared, in a few sentences."""
    if load.band is None:
        return "The trace does not say how its model routes; what chance alone would give cannot be told."
    layers = load.counts.sizes["moe_layer"]
    uneven = int((metrics.max_violation(load.counts) > load.band.max_violation).sum())
    said = (
        f"**In {uneven} of {layers} layers the busiest expert carries more than chance explains.** "
        f"{int(loads.outside(load).sum()):,} of {load.counts.size:,} experts lie outside the band that fair routing of "
        f"{load.num_tokens:,} tokens keeps 95 % of them in; about {layers * load.band.outside:.0f} would by chance."
    )
    return said if load.num_tokens >= load.fewest else f"{said} {_too_few(load)}"


def _too_few(load: Load) -> str:
    """Why an expert without a token is not called dead."""
    return (
        f"These tokens are too few to call an expert dead: with {load.rule.num_experts} experts, "
        f"{load.rule.top_k} to a token, that takes at least {load.fewest}."
    )


def worst(load: Load, number: int = 3) -> str:
    """The layers whose busiest expert exceeds a fair share most, and what that means."""
    violation = metrics.max_violation(load.counts)
    order = np.argsort(-violation.values, kind="stable")[:number]
    layers, ratio = violation["moe_layer"].values[order].tolist(), 1 + float(violation.max())
    meaning = (
        f"A layer waits for its busiest expert: with one expert to a device, L{layers[0]} would take {ratio:.3g} times "
        "as long on these tokens as with even work. A router is trained to be even over much text, not over one."
    )
    return "\n".join(["The least even layers:", *(f"- {_about_layer(load, layer)}" for layer in layers), "", meaning])


def _about_layer(load: Load, layer: int) -> str:
    counts, band = load.counts.sel(moe_layer=layer).values, load.band
    ratio, spared = counts.max() / counts.mean(), int((counts == 0).sum())
    reach = "" if band is None else f"; chance alone gives up to {band.max_violation:.3g}"
    left_out = (
        "" if band is None else f" (chance alone leaves out {f'up to {band.num_dead}' if band.num_dead else 'none'})"
    )
    return (
        f"**L{layer}**: E{counts.argmax()} took {counts.max():,} of {load.num_tokens:,} tokens, {ratio:.3g} times a "
        f"fair share (MaxVio {ratio - 1:.3g}{reach}). {spared} of {load.rule.num_experts} experts took none{left_out}."
    )


def about_expert(load: Load, layer: int, expert: int) -> str:
    """One expert's share with its interval, against a fair share."""
    row = loads.by_expert(load, layer).iloc[expert]
    said = (
        f"**{row['expert']}** took {row['tokens']:,} of {load.num_tokens:,} tokens, {row['share of tokens']:.1%} "
        f"(95 % interval {row['low (95 %)']:.1%} to {row['high (95 %)']:.1%}). "
        f"A fair share is {load.rule.fair_share:.1%}"
    )
    return f"{said}." if load.band is None else f"{said}: {row['against chance'].replace('took no token; ', '')}."


# --- figures ---------------------------------------------------------------------------------------------------------


def overview(load: Load) -> None:
    """The main figure: every expert of every layer."""
    figure = figures.load_heatmap(load.ratio, load.rule, session.theme(), load.band)
    said = (
        "A row per mixture layer, the first at the bottom; a column per expert, groups apart. 1 is a fair share, "
        "orange more, blue less; a dot marks what chance alone does not explain. Chance is fair routing: every token "
        "takes its experts at random. Counts are measured, ratios derived, the bounds of chance simulated. Beyond "
        "chance need not be a fault: a text of one kind wants some experts more than others. Click a cell."
    )
    controls.chart(figure, "load", loads.everything(load), said, chooses=("layer", "expert"))


def about(name: str, load: Load, layer: int, expert: int | None) -> None:
    """Fill the tab of that name."""
    if name == LAYER:
        one_layer(load, layer, expert)
    elif name == BARS:
        strip(load)
    elif name == GROUPS:
        groups(load)
    elif name == DEVICES:
        devices.devices(load)
    else:
        numbers(load)


def one_layer(load: Load, layer: int, expert: int | None) -> None:
    """One layer's bars, and the chosen expert or the busiest one in words."""
    ratio = load.ratio.sel(moe_layer=layer)
    st.markdown(about_expert(load, layer, int(ratio.values.argmax()) if expert is None else expert))
    figure = figures.load_bars(ratio, load.rule, session.theme(), load.band, expert)
    said = (
        f"The experts of L{layer}; the dashed line is a fair share, the grey band what chance alone gives to 95 % of "
        "experts, the strip below the bars the groups; a cross took no token. The table has each share of the tokens "
        "with its 95 % interval (Wilson, as if tokens were independent). Click a bar."
    )
    table = loads.by_expert(load, layer)
    controls.chart(figure, "load-layer", table, said, chooses=("expert",))


def strip(load: Load) -> None:
    """Small bars of all layers."""
    figure = figures.load_strip(load.ratio, load.rule, session.theme(), load.band)
    said = (
        "A row of bars per layer: each expert's load over a fair share, which is the dotted line; bars end at 4. Grey "
        "bars are within chance, orange ones above, blue ones below. Click a bar."
    )
    controls.chart(figure, "load-strip", loads.everything(load), said, chooses=("layer", "expert"))


def groups(load: Load) -> None:
    """How the groups share the work."""
    if load.rule.num_groups == 1:
        st.info("This model has no routing groups.")
        return
    figure = figures.group_load(load.group_ratio, session.theme(), load.band)
    said = (
        "A row per layer, a column per group of experts: how often an expert of the group was chosen, over a fair "
        "share. A dot marks what chance alone does not explain. The table has the share of tokens that kept the group, "
        "with its 95 % interval (Wilson, as if tokens were independent)."
    )
    controls.chart(figure, "load-groups", loads.by_group(load), said, chooses=("layer",))


def numbers(load: Load) -> None:
    """The measures of every layer, above them what chance alone gives."""
    table = loads.with_bounds(load)
    formats = {name: tables.THREE for name in ("MaxVio", "CV", "entropy", "Gini")}
    st.dataframe(
        table, hide_index=True, column_config=formats, height="content" if len(table) < 16 else 560, placeholder=""
    )
    st.caption(
        "MaxVio: how far the busiest expert exceeds the mean, in means. CV: standard deviation over mean. Entropy: of "
        "the shares, 1 is even. Gini: 0 is even. Dead: experts without a token. Hot: at least twice the mean. The "
        f"first row is what fair routing of {load.num_tokens:,} tokens keeps to in 95 % of cases (simulated): entropy "
        "stays above it, the others below. Everything else is derived from measured counts."
    )
    controls.download_table(table, "load-figures")
