"""Tables of one layer's decision, and of experts that share tokens."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from model.trace import routing
from model.trace.decision import Decision
from model.trace.router_rule import RouterRule
from model.trace.shape import LOGIT
from pages.observe.routing.path import verdicts
from pages.observe.routing.steps import SCORINGS

PAIR_COLUMNS = {
    "expert": "expert",
    "other": "also went to",
    "tokens": "tokens",
    "total": "of",
    "share": "share",
    "low": "low (95 %)",
    "high": "high (95 %)",
    "fair": "fair share",
}


def by_expert(decision: Decision, lost: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Return a table with a row per expert and the numbers of every step: selected experts first, by biased score."""
    experts = decision.experts
    columns = {
        "expert": [f"E{expert}" for expert in range(experts.sizes["expert"])],
        "verdict": verdicts(experts["chosen"].values, lost),
        "group": experts["group"].values,
    }
    if decision.groups:
        columns["group score"] = decision.groups["score"].values[experts["group"].values]
        columns["group kept"] = experts["reachable"].values
    columns |= {
        "logit" if decision.logit_kind == LOGIT else SCORINGS[decision.rule.scoring].logit: experts["logit"].values,
        "affinity": experts["affinity"].values,
        "bias": experts["bias"].values,
        "bias - mean": routing.relative_bias(experts["bias"]).values,
        "with bias": experts["biased"].values,
        "normalised": experts["share"].values,
        "weight": experts["weight"].values,
    }
    unused = ["group"] if decision.rule.num_groups == 1 else []
    has_bias = decision.rule.has_selection_bias and not decision.by_table
    unused += [] if has_bias else ["bias", "bias - mean", "with bias"]
    unused += [] if decision.rule.normalise_weights else ["normalised"]
    columns = {name: values for name, values in columns.items() if name not in unused}
    if decision.rule.has_expert_factor:
        columns["factor"] = experts["factor"].values
    order = np.lexsort([-experts["biased"].values, ~experts["chosen"].values])
    return pd.DataFrame(columns).iloc[order].reset_index(drop=True)


def nearest(rows: pd.DataFrame, expert: int, others: int = 4) -> pd.DataFrame:
    """Return the rows near the boundary of the selection.

    These are the selected experts, those that would be selected without the bias or without the group limit, the
    `others` best of the remaining experts by biased score, and `expert`.
    """
    plain = rows["verdict"].eq("not chosen").to_numpy()
    best = rows.index[plain][:others]
    return rows.loc[~plain | rows.index.isin(best) | rows["expert"].eq(f"E{expert}").to_numpy()]


def pairs(counts: xr.DataArray, rule: RouterRule) -> pd.DataFrame:
    """Return a table with a row per ordered pair of experts with common tokens, the most tokens first.

    Args:
        counts: number of tokens routed to both experts, [expert, other_expert].
        rule: rule of the router.
    """
    shares = routing.pair_shares(counts, rule).to_dataframe()
    table = pd.DataFrame(shares, columns=list(PAIR_COLUMNS)).rename(columns=PAIR_COLUMNS)
    return table.sort_values(["tokens", "share"], ascending=False, kind="stable")


def transitions(counts: xr.DataArray, fewest: int = 1) -> pd.DataFrame:
    """Return a table of transitions from an expert to an expert of the next MoE layer, the most tokens first.

    Args:
        counts: number of tokens, [expert, next_expert], or with an axis `moe_layer` before them.
        fewest: transitions with fewer tokens are left out.
    """
    wide = counts if "moe_layer" in counts.dims else counts.expand_dims("moe_layer")
    row, expert, following = np.nonzero(wide.values >= fewest)
    table = pd.DataFrame(
        {
            "layer": np.atleast_1d(wide["moe_layer"].values)[row],
            "expert": expert,
            "next layer": np.atleast_1d(wide["next_layer"].values)[row],
            "next expert": following,
            "tokens": wide.values[row, expert, following],
        }
    )
    return table.sort_values("tokens", ascending=False, kind="stable")
