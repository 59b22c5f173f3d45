"""One layer's decision in a table and in words."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from model.trace import near_ties
from model.trace.decision import Decision
from pages.common.routing_tables import verdicts
from pages.common.text import plain
from pages.observe.routing.steps import SCORINGS

NEAR_TIE = ":orange-badge[near tie]"


def table(found: Decision, lost: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """A row per expert with the numbers of every step, the chosen ones first, each part by biased score."""
    experts = found.experts
    columns = {
        "expert": [f"E{expert}" for expert in range(experts.sizes["expert"])],
        "verdict": verdicts(experts["chosen"].values, lost),
        "group": experts["group"].values,
    }
    if found.groups:
        columns["group score"] = found.groups["score"].values[experts["group"].values]
        columns["group kept"] = experts["reachable"].values
    columns |= {
        SCORINGS[found.rule.scoring].logit: experts["logit"].values,
        "affinity": experts["affinity"].values,
        "bias": experts["bias"].values,
        "bias - mean": experts["bias"].values - experts["bias"].values.mean(),
        "with bias": experts["biased"].values,
        "normalised": experts["share"].values,
        "weight": experts["weight"].values,
    }
    if not found.rule.normalise_weights:
        del columns["normalised"]
    order = np.lexsort([-experts["biased"].values, ~experts["chosen"].values])
    return pd.DataFrame(columns).iloc[order].reset_index(drop=True)


def nearest(every: pd.DataFrame, focus: int, others: int = 4) -> pd.DataFrame:
    """The rows that decide: the chosen, who lost to one thing only, the best of the rest, and the expert in focus."""
    plain = every["verdict"] == "not chosen"
    return every.loc[~plain | every.index.isin(every.index[plain][:others]) | (every["expert"] == f"E{focus}")]


def because(found: Decision, lost: Mapping[str, xr.DataArray]) -> str:
    """The decision in a few sentences."""
    chosen = found.chosen
    if not len(chosen):
        return "The trace does not say which experts were chosen."
    first = chosen[np.argmax(found.experts["affinity"].values[chosen])]
    strongest = f"E{first} counts most, with an affinity of {found.experts['affinity'].values[first]:.3g}."
    said = [strongest]
    if np.isfinite(found.group_margin):
        kept = listed("", np.flatnonzero(found.groups["kept"].values))
        said.insert(
            0, f"Groups {kept} were kept, the last of them by {found.group_margin:.2g}{_near(found.group_near)}."
        )
    if np.isfinite(found.place_margin):
        said.append(f"E{chosen[-1]} was the last to get in, by {found.place_margin:.2g}{_near(found.place_near)}.")
    for name, mask in lost.items():
        said += [f"{listed('E', np.flatnonzero(mask.values))} {name}."] if mask.any() else []
    return " ".join(said)


def _near(near: bool) -> str:
    return f" {NEAR_TIE}" if near else ""


def reservations(found: Decision, dtype: str) -> list[str]:
    """What a reader must know of these numbers: what does not hold, contradicts itself, or was close."""
    said, dtype = [], plain(dtype, 40)
    if not found.untouched:
        said.append(
            f"This run was changed in L{found.layer}. Affinities, bias, group scores, kept groups, experts and weights "
            "are as recorded; logit and affinity + bias follow from them, but the choice need not follow from those: "
            "no comparison, margin or loser is said."
        )
    elif found.tolerance is None:
        said.append(f"No tolerance was measured for {dtype}, so near ties are not marked.")
    elif found.place_near or found.group_near:
        double = (
            " (twice that for a group, the sum of two)" if found.rule.scores_per_group == 2 and found.group_near else ""
        )
        said.append(
            f"A near tie: rounding in {dtype} can move a score by so much that another implementation, device or "
            f"batch may choose otherwise. Margins up to {found.tolerance:g}{double} count as near."
        )
    rough = near_ties.tolerance("bfloat16")  # what was recorded may have been rounded to fewer digits on the way
    if found.untouched and min(found.place_margin, found.group_margin) < -rough:
        said.append("The recorded choice is not the one that the recorded scores give: the last to get in trails.")
    if found.untouched and found.group_gap > rough:
        said.append(f"The recorded group scores differ from those of the rule by up to {found.group_gap:.2g}.")
    if found.untouched and found.weight_gap > rough:
        said.append(
            f"The recorded weights differ from those that the affinities give by up to {found.weight_gap:.0%} of the "
            "largest: this trace was not made by the rule that its configuration states."
        )
    return said


def listed(prefix: str, numbers: np.ndarray) -> str:
    """Numbers with a prefix each, after commas."""
    return ", ".join(f"{prefix}{number}" for number in numbers.tolist())
