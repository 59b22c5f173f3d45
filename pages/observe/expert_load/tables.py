"""The load of experts, layers and groups as tables."""

import numpy as np
import pandas as pd

from model.trace import load as loads
from model.trace.load import Load
from pages.common import tables
from viz.load import verdicts


def by_layer(load: Load) -> pd.DataFrame:
    """Return a table with a row per layer, below a row of the bounds that random routing keeps in 95 % of cases."""
    table, band = tables.load_by_layer(load), load.band
    if band is None:
        return table
    bounds = {"layer": "chance", "tokens": load.num_tokens, "MaxVio": band.max_violation, "CV": band.variation}
    bounds |= {"entropy": band.entropy, "Gini": band.gini, "dead": band.num_dead, "beyond chance": 0}
    return pd.concat([pd.DataFrame([bounds], columns=table.columns), table], ignore_index=True)


def by_expert(load: Load, layer: int) -> pd.DataFrame:
    """Return a table with a row per expert of a layer: its share of the tokens, with an interval."""
    experts, part = np.arange(load.rule.num_experts), loads.by_expert(load, layer)
    table = {
        "expert": [f"L{layer}E{expert}" for expert in experts],
        "group": [load.rule.group_of(expert) for expert in experts.tolist()],
        "tokens": part["tokens"].values,
        "share of tokens": part["share"].values,
        "low (95 %)": part["low"].values,
        "high (95 %)": part["high"].values,
        "× uniform": part["ratio"].values,
    }
    if load.band is not None:
        table["against chance"] = verdicts(part["ratio"].values, load.band)
    return pd.DataFrame(table)


def by_layer_and_expert(load: Load) -> pd.DataFrame:
    """Return a table of load ratios with a row per layer and expert."""
    layers, experts = load.counts["moe_layer"].values, np.arange(load.rule.num_experts)
    ratio = load.ratio.values.ravel()
    table = {
        "layer": np.repeat(layers, len(experts)),
        "expert": np.tile(experts, len(layers)),
        "tokens": load.counts.values.ravel(),
        "× uniform": ratio,
    }
    if load.band is not None:
        table["against chance"] = verdicts(ratio, load.band)
    return pd.DataFrame(table)


def by_group(load: Load) -> pd.DataFrame:
    """Return a table of load ratios with a row per layer and group."""
    part = loads.by_group(load)
    layers, groups = part["moe_layer"].values, np.arange(load.rule.num_groups)
    table = {"layer": np.repeat(layers, len(groups)), "group": np.tile(groups, len(layers))}
    names = {
        "slots": "choices of its experts",
        "ratio": "× uniform",
        "kept": "tokens that kept it",
        "share": "share",
        "low": "low (95 %)",
        "high": "high (95 %)",
    }
    table |= {label: part[name].values.ravel() for name, label in names.items() if name in part}
    return pd.DataFrame(table)
