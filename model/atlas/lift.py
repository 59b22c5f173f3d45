"""What each expert is for: how much more often it is selected in documents of one label than in all others.

A lift is called only if it is beyond chance (Benjamini-Hochberg over all cells of the table), at least a factor of 2,
and stands without any one source of the corpus. Errors are over documents. `model/atlas/null.py` checks these tests on
shuffled labels and on halves of the corpus.

Beyond chance means by two tests: the lift over its error, and the group's selections against shuffled labels. The first
alone is deceived by a small group that happens to lack the documents in which an expert is frequent: both its share and
its error are then too small. docs/measured.md has what the first test alone calls on shuffled labels.

Shape suffixes: G labels, L MoE layers, E experts, N cells.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from model.atlas.discovery import FLOOR, LEVEL, adjusted
from model.atlas.folder import Sweep
from model.atlas.share import CELL, coordinates
from model.atlas.sums import Sums, numbered, of_strata
from model.trace.documents import FEW, FEWEST, t_quantile, two_sided_p

# Why a lift is not called, in the order of the tests; the variable `reason` holds the index.
REASONS = ("survives", "too few documents", "too few hits", "not beyond chance", "small", "depends on one source")
SURVIVES, FEW_DOCUMENTS, FEW_HITS, CHANCE, SMALL, ONE_SOURCE = range(len(REASONS))


class Lift(NamedTuple):
    """Lifts and their errors, each [..., L, E].

    Attributes:
        lift: log2 of the share in the group over the share in the rest.
        error: standard error over documents; NaN if neither group has a selection.
        degrees: degrees of freedom of `error`, by Welch and Satterthwaite from those of both groups.
    """

    lift: np.ndarray
    error: np.ndarray
    degrees: np.ndarray


def lift(group: Sums, rest: Sums) -> Lift:
    """Return log2 of the ratio of two load shares, with its error over documents; the groups share no document.

    A group without a selection counts as half a document that selects the expert, as often as such a document of the
    other group does. The ratio is then finite, and its error large: the relative variance of a count of 1/2 is 2.

    Args:
        group: sums of the group.
        rest: sums of the other documents.
    """
    group_c, rest_c = _at_least_half(group, rest), _at_least_half(rest, group)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = group_c / group.n[..., None, None] / (rest_c / rest.n[..., None, None])
        parts = [np.where(sums.c > 0, sums.relative_variance(), 2.0) for sums in (group, rest)]
        variance = parts[0] + parts[1]
        # A count of 1/2 is not estimated from documents, so its variance costs no degree of freedom.
        freedom = [np.where(sums.c > 0, sums.degrees(), np.inf) for sums in (group, rest)]
        degrees = variance**2 / (parts[0] ** 2 / freedom[0] + parts[1] ** 2 / freedom[1])
        return Lift(np.log2(ratio), np.sqrt(variance) / np.log(2), degrees)


def _at_least_half(sums: Sums, other: Sums) -> np.ndarray:
    """Return the selections, with half those of the other group's mean document in place of 0."""
    with np.errstate(invalid="ignore"):
        return np.where(sums.c > 0, sums.c, 0.5 * other.c / other.hit)


def judged(group: Sums, rest: Sums) -> np.ndarray:
    """Return why each lift cannot be tested, [..., L, E]: `FEW_DOCUMENTS`, `FEW_HITS`, or `SURVIVES` if it can.

    Both groups need 20 documents, and 20 documents of the group with the larger share must select the expert.
    """
    few = (np.minimum(group.documents, rest.documents) < FEWEST)[..., None, None]
    hits = np.where(group.share() >= rest.share(), group.hit, rest.hit)
    return np.where(few, FEW_DOCUMENTS, np.where(hits < FEWEST, FEW_HITS, SURVIVES))


def shuffle_p(group: Sums, rest: Sums) -> np.ndarray:
    """Return the two-sided p of a group's selections against shuffles of its documents with the rest, [..., L, E].

    Under shuffles, the group's sum of residuals c_d - share n_d has mean 0 and exactly the variance used here, where
    `share` is that of group and rest together. Student's t with D - 1 degrees stands for its distribution.

    Args:
        group: sums of the group.
        rest: sums of the other documents.
    """
    both = group + rest
    own, other, all_documents = (sums.documents[..., None, None] for sums in (group, rest, both))
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = own * other / (all_documents * (all_documents - 1.0)) * both.squared_residuals()
        excess = group.c - both.share() * group.n[..., None, None]
        return two_sided_p(excess / np.sqrt(variance), np.maximum(all_documents - 1.0, 1))


def calls(group: Sums, rest: Sums, level: float = LEVEL, floor: float = FLOOR) -> dict[str, np.ndarray]:
    """Return lifts with interval and verdict, before sources are left out; each [..., L, E].

    Results are `lift`, `error`, `low`, `high`, `p` (the larger of the two tests), `q` (`p` adjusted over all cells) and
    `reason`. Error, bounds, p and q are NaN where documents are too few.

    Args:
        group: sums of each group.
        rest: sums of the other documents of each group.
        level: accepted part of false calls.
        floor: smallest |lift| that is called.
    """
    measured, reason = lift(group, rest), judged(group, rest)
    error = np.where(reason == SURVIVES, measured.error, np.nan)
    p = np.fmax(two_sided_p(measured.lift / error, measured.degrees), shuffle_p(group, rest))
    p = np.where(np.isnan(error), np.nan, p)
    q = adjusted(p)
    reach = t_quantile(0.975, measured.degrees) * error
    reason = np.where((reason == SURVIVES) & ~(q <= level), CHANCE, reason)
    reason = np.where((reason == SURVIVES) & (np.abs(measured.lift) < floor), SMALL, reason)
    bounds = {"low": measured.lift - reach, "high": measured.lift + reach}
    return {"lift": measured.lift, "error": error} | bounds | {"p": p, "q": q, "reason": reason}


def specialists(sweep: Sweep, kind: str, level: float = LEVEL, floor: float = FLOOR) -> xr.Dataset:
    """Return for each label and expert the lift, and whether it survives all tests.

    Variables [label, moe_layer, expert]: `lift` (log2 of share over share elsewhere), `error`, `low`, `high`, `p`, `q`,
    `share`, `elsewhere`, `survives`, `reason` (index of `REASONS`) and `weakest`: the lift closest to 0 that leaving
    out one source gives, NaN where the other tests fail. Variables [label]: `documents`, `sources`, and `few` (below 60
    documents, where intervals are too narrow). Documents without a label count nowhere; `unlabelled` is their number.
    `sources_checked` is False if no document has a source.

    Args:
        sweep: the sweep.
        kind: "domain", "language" or "source".
        level: accepted part of false calls.
        floor: smallest |lift| that is called.
    """
    strata, sums = of_strata(sweep)
    labels, group_S = numbered(strata[kind].fillna("").to_numpy(dtype=np.str_))
    sources, source_S = numbered(strata["source"].fillna("").to_numpy(dtype=np.str_))
    groups = sums.added(group_S, len(labels))
    rest = groups.rest()
    result = calls(groups, rest, level, floor)
    result["weakest"] = np.full(result["lift"].shape, np.nan)
    if sources:
        cells = np.nonzero(result["reason"] == SURVIVES)
        lifts = result["lift"][cells]
        weakest = _weakest(lifts, cells, groups, sums, group_S, source_S, kind == "source")
        result["weakest"][cells] = weakest
        result["reason"][cells] = np.where(weakest * np.sign(lifts) >= floor, SURVIVES, ONE_SOURCE)
    result |= {"share": groups.share(), "elsewhere": rest.share(), "survives": result["reason"] == SURVIVES}
    per_label = {
        "documents": groups.documents,
        "sources": [len(set(source_S[group_S == group].tolist())) for group in range(len(labels))],
        "few": groups.documents < FEW,
    }
    return xr.Dataset(
        {name: (("label", *CELL), values) for name, values in result.items()}
        | {name: (("label",), values) for name, values in per_label.items()},
        coordinates(sweep) | {"label": labels},
        {
            "kind": kind, "level": level, "floor": floor, "tests": int(np.isfinite(result["p"]).sum()),
            "unlabelled": int(sums.documents[group_S < 0].sum()), "sources_checked": bool(sources),
        },
    )  # fmt: skip


def _weakest(
    lifts_N: np.ndarray,
    cells: tuple[np.ndarray, ...],
    groups: Sums,
    sums: Sums,
    group_S: np.ndarray,
    source_S: np.ndarray,
    others_only: bool,
) -> np.ndarray:
    """Return for each cell the lift closest to 0, or farthest beyond it, when one source is left out, [N].

    A label of one source has the lift 0. Documents without a source count as one source.

    Args:
        lifts_N: lifts with all sources.
        cells: label, layer and expert of each cell, [N] each.
        groups: sums of the labels.
        sums: sums of the strata.
        group_S: label of each stratum, or -1.
        source_S: source of each stratum, or -1.
        others_only: never leave out the source that is the label itself.
    """
    label_N, layer_N, expert_N = cells
    group_c, group_n = groups.c[cells], groups.n[label_N]
    rest_c, rest_n = groups.c.sum(0)[layer_N, expert_N] - group_c, groups.n.sum() - group_n
    sign, weakest = np.sign(lifts_N), np.abs(lifts_N)
    for source in np.unique(source_S):
        left_c, left_n, other_c, other_n = group_c.copy(), group_n.copy(), rest_c.copy(), rest_n.copy()
        for stratum in np.flatnonzero((source_S == source) & (group_S >= 0)):
            own = label_N == group_S[stratum]
            c_N, n = sums.c[stratum, layer_N, expert_N], sums.n[stratum]
            left_c, left_n = left_c - own * c_N, left_n - own * n
            other_c, other_n = other_c - ~own * c_N, other_n - ~own * n
        with np.errstate(divide="ignore", invalid="ignore"):
            without = np.log2(left_c / left_n) - np.log2(other_c / other_n)
        without = np.where((left_n == 0) | (other_n == 0), np.inf if others_only else 0, without * sign)
        weakest = np.fmin(weakest, without)
    return weakest * sign
