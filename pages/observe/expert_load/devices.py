"""What Expert load says of devices: what each would carry of this text, before and after experts are placed anew."""

import numpy as np
import pandas as pd
import streamlit as st

from model.trace import metrics
from model.trace.placement import Placement, as_numbered, balanced
from pages.common import controls, session
from pages.common.loads import Load
from viz import devices as figures

PER_NODE = 8  # devices of a machine, as in DeepSeek's deployment
USUAL = 8


def devices(load: Load) -> None:
    """Choosers, the answer in words, the figure, and the table."""
    place = st.container(horizontal=True, vertical_alignment="bottom")
    with place:
        number = _choose("Devices", "devices", devices_of(load.rule.num_experts), USUAL)
        redundant = _choose("Redundant experts", "redundant", redundant_of(load.rule.num_experts, number), number)
    before, after = placements(load, number, redundant)
    st.markdown(verdict(load, before, after))
    loads = [metrics.relative_load(placed.load(load.counts), "device") for placed in (before, after)]
    said = (
        "A row per mixture layer, a column per device, twice: experts in the order of their numbers, then as "
        "DeepSeek's load balancer (EPLB) places them. 1 is the mean of the layer's devices, orange more, blue less. "
        "The heaviest experts get the redundant places, and a copied expert's tokens are shared evenly by its copies; "
        "then places are packed so that devices carry about the same. Balancedness is the mean over the largest: the "
        "share of the time that the devices would work if each waited for the busiest. Simulated, and at its best: "
        f"experts are placed by the same {load.num_tokens:,} tokens that are counted. Click a cell to choose its layer."
    )
    figure = figures.device_load(*loads, session.theme())
    controls.chart(figure, "load-devices", by_layer(load, before, after), said, chooses=("layer",))


def _choose(label: str, key: str, options: list[int], usual: int) -> int:
    """One of the numbers; the nearest to the usual one until one is chosen."""
    controls.keep_within(key, options)
    nearest = min(range(len(options)), key=lambda place: abs(options[place] - usual))
    return st.selectbox(label, options, index=nearest, key=key, bind="query-params", format_func=str, width=180)


def devices_of(num_experts: int) -> list[int]:
    """Numbers of devices among which the experts divide evenly."""
    return [number for number in range(2, num_experts + 1) if num_experts % number == 0]


def redundant_of(num_experts: int, num_devices: int) -> list[int]:
    """Numbers of redundant experts that give every device as many, up to a copy of each expert."""
    return list(range(0, num_experts + 1, num_devices))


def placements(load: Load, number: int, redundant: int) -> tuple[Placement, Placement]:
    """As numbered, and balanced; groups stay together on machines of `PER_NODE` devices where they divide so."""
    nodes = nodes_of(number)
    return as_numbered(load.counts, number), balanced(load.counts, number, redundant, load.rule.num_groups, nodes)


def nodes_of(number: int) -> int:
    """Machines that so many devices stand in."""
    return number // PER_NODE if number % PER_NODE == 0 else 1


def verdict(load: Load, before: Placement, after: Placement) -> str:
    """How even the devices are without and with balancing, in a few sentences."""
    evenness = [metrics.balancedness(placed.load(load.counts), "device") for placed in (before, after)]
    busiest = metrics.relative_load(before.load(load.counts), "device").max("device")
    worst = int(busiest["moe_layer"][int(busiest.argmax("moe_layer"))])
    nodes, places = nodes_of(before.num_devices), after.expert.sizes["place"]
    together = (
        f"; routing groups stay on one of {nodes} machines" if nodes > 1 and load.rule.num_groups % nodes == 0 else ""
    )
    return (
        f"**On {before.num_devices} devices, experts as numbered, the busiest carries {float(busiest.max()):.3g} times "
        f"the mean in L{worst}; balancedness is {float(evenness[0].mean()):.3g} on average over layers. With "
        f"{places - load.rule.num_experts} redundant experts, placed anew, it is {float(evenness[1].mean()):.3g}.** "
        f"{places // before.num_devices} places to a device{together}. n = {load.num_tokens:,} tokens; simulated."
    )


def by_layer(load: Load, before: Placement, after: Placement) -> pd.DataFrame:
    """One row per layer: balancedness and the busiest device, before and after, and which experts have copies."""
    layers = load.counts["moe_layer"].values
    table: dict[str, object] = {"layer": [f"L{layer}" for layer in layers]}
    for name, placed in (("before", before), ("after", after)):
        carried = placed.load(load.counts)
        table[f"balancedness {name}"] = metrics.balancedness(carried, "device").values
        table[f"busiest device {name} (× mean)"] = metrics.relative_load(carried, "device").max("device").values
    table["copied experts"] = [_copied(copies) for copies in after.copies.values]
    return pd.DataFrame(table)


def _copied(copies: np.ndarray) -> str:
    return ", ".join(f"E{expert} × {copies[expert]}" for expert in np.flatnonzero(copies > 1).tolist()) or "none"
