"""The Devices tab: the load of each device, with experts placed by number or by EPLB, DeepSeek's balancer."""

import numpy as np
import pandas as pd
import streamlit as st

from model.atlas.placement.plan import Layout
from model.trace.load import Load
from model.trace.placement import Placement, as_numbered, balanced, device_figures
from pages.common import controls, session
from pages.observe.expert_load import swept
from viz import devices as figures

PER_NODE = 8  # devices per machine, as in DeepSeek's deployment
USUAL = 8
THIS_RUN = "this run"


def show(load: Load) -> None:
    """Draw the tab: the widgets, the answer in words, the figure, and the table."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        number = _choose("Devices", "devices", devices_of(load.computing.sizes["expert"]), USUAL)
        redundant = _choose(
            "Redundant experts", "redundant", redundant_of(load.computing.sizes["expert"], number), number
        )
        source = _source(load)
    if source != THIS_RUN:
        swept.show(source, Layout(number, redundant, nodes_of(number), load.rule.num_groups))
        return
    before, after = placements(load, number, redundant)
    st.markdown(verdict(load, before, after))
    in_order, balanced = (device_figures(placement, load.computing)["ratio"] for placement in (before, after))
    how_to_read = (
        "Two maps with a row per MoE layer and a column per device. On the left, experts are placed in the order of "
        "their numbers; on the right, DeepSeek's load balancer (EPLB) places them. 1 is the mean load of the layer's "
        "devices, orange is more, blue less. EPLB first copies the busiest experts (the copies are the redundant "
        "experts); an expert and its copies share its tokens evenly. It then places all of them so that devices carry "
        "about the same load. Balancedness is the mean load divided by the largest: the share of time that devices "
        "work if all wait for the busiest one. Simulated, and optimistic: the placement is computed from the same "
        f"{load.num_tokens:,} tokens that are counted. Click a cell to choose its layer."
    )
    figure = figures.device_load(in_order, balanced, session.theme())
    controls.chart(figure, "load-devices", by_layer(load, before, after), how_to_read, chooses=("layer",))


def _choose(label: str, key: str, options: list[int], usual: int) -> int:
    """Draw a list of numbers and return the chosen one; at first it is the nearest to `usual`."""
    controls.keep_within(key, options)
    nearest = min(range(len(options)), key=lambda index: abs(options[index] - usual))
    return st.selectbox(label, options, index=nearest, key=key, bind="query-params", format_func=str, width=180)


def _source(load: Load) -> str:
    """Draw the list of loads and return the chosen one: `THIS_RUN`, or the name of a sweep. No list without a sweep."""
    options = [THIS_RUN, *swept.names(load)]
    if len(options) == 1:
        return THIS_RUN
    controls.keep_within("loads", options)
    return st.selectbox(
        "Loads of", options, key="loads", bind="query-params", width=220,
        help="This run: the tokens on show. A sweep: a corpus of documents, half of which only judge the placement.",
    )  # fmt: skip


def devices_of(num_experts: int) -> list[int]:
    """Return the possible numbers of devices: the divisors of the number of experts, except 1."""
    return [number for number in range(2, num_experts + 1) if num_experts % number == 0]


def redundant_of(num_experts: int, num_devices: int) -> list[int]:
    """Return the possible numbers of redundant experts: 0 and the multiples of `num_devices` up to `num_experts`."""
    return list(range(0, num_experts + 1, num_devices))


def placements(load: Load, number: int, redundant: int) -> tuple[Placement, Placement]:
    """Return two placements of experts on `number` devices: by expert number, and balanced by EPLB.

    Each routing group stays on one machine of `PER_NODE` devices if every machine gets equally many groups.
    """
    nodes = nodes_of(number)
    return as_numbered(load.computing, number), balanced(load.computing, number, redundant, load.rule.num_groups, nodes)


def nodes_of(number: int) -> int:
    """Return how many machines hold `number` devices, `PER_NODE` on each; 1 if `PER_NODE` does not divide `number`."""
    return number // PER_NODE if number % PER_NODE == 0 else 1


def verdict(load: Load, before: Placement, after: Placement) -> str:
    """Return a few sentences on how even the load of devices is in both placements, by number and by EPLB."""
    numbered, placed = (device_figures(placement, load.computing) for placement in (before, after))
    worst = int(numbered["busiest"].idxmax("moe_layer"))
    nodes, places = nodes_of(before.num_devices), after.expert.sizes["place"]
    groups = load.rule.num_groups
    together = f"; each routing group stays on one of the {nodes} machines" if nodes > 1 and groups % nodes == 0 else ""
    return (
        f"**With experts placed by number on {before.num_devices} devices, the busiest device carries "
        f"{float(numbered['largest']):.3g} times the mean load in L{worst}; balancedness is "
        f"{float(numbered['mean_balancedness']):.3g} on average over layers. With {places - before.num_experts} "
        f"redundant experts, placed by EPLB, it is {float(placed['mean_balancedness']):.3g}.** Experts per device, "
        f"copies included: {places // before.num_devices}{together}. n = {load.num_tokens:,} tokens; simulated."
    )


def by_layer(load: Load, before: Placement, after: Placement) -> pd.DataFrame:
    """Return a table with a row per layer: balancedness and busiest device of both placements, and copied experts."""
    layers = load.counts["moe_layer"].values
    table: dict[str, object] = {"layer": [f"L{layer}" for layer in layers]}
    for name, placement in (("before", before), ("after", after)):
        measures = device_figures(placement, load.computing)
        table[f"balancedness {name}"] = measures["balancedness"].values
        table[f"busiest device {name} (× mean)"] = measures["busiest"].values
    table["copied experts"] = [_copied(copies) for copies in after.copies.values]
    return pd.DataFrame(table)


def _copied(copies: np.ndarray) -> str:
    return ", ".join(f"E{expert} × {copies[expert]}" for expert in np.flatnonzero(copies > 1).tolist()) or "none"
