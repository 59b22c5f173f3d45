"""Judges the routing of a text: dead and hot experts, starved groups, collapse, near ties, spread of the affinities.

`model/trace` computes the numbers. A share has a 95 % Wilson interval. An expert counts as starved only if a fair
router, which selects random experts, would leave any expert idle with a probability below 1 %. A text on one subject
selects the same experts again and again, so only extremes are more than a note.

Thresholds: an expert or group is starved if the interval ends below a tenth of its fair share; a starved expert is dead
if it took less than a hundredth of its fair share, and rarely selected otherwise; an expert is hot if the interval
begins above half of the tokens and above three fair shares; a layer has collapsed if its top-k busiest experts fill
90 % of the slots. Affinities are nearly constant if their standard deviation is below 0.001, and saturated if 95 % of
them lie within 0.001 of 0 or 1.

The embedded models on the doctor's own sample: experts have 0.033 to 3.8 fair shares, and the busiest four at most
33 % of the slots; affinities have a standard deviation of at least 0.16, and at most 1.3 % of them lie within 0.001 of
0 or 1. The lowest share is that of an expert of mini-v32-chat that serves English and code. It has 0.31 fair shares in
mini-v32; the tuning for answers, which moved no bias, cost it nine of ten tokens. All others have at least 0.14.

Shape suffixes: T tokens, E experts, G groups.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import xarray as xr

from model.doctor.findings import ERROR, NOTE, WARNING, Finding, Number, shortened
from model.trace import metrics
from model.trace.chance import band_of
from model.trace.near_ties import near_ties
from model.trace.router_rule import SCORINGS, RouterRule
from model.trace.routing import one_hot, share_interval

LOAD, GROUPS, TIES, SCORES, ROUNDING = "load", "groups", "near ties", "affinities", "bf16 against fp32"
STARVED, DEAD, HALF, HOT, COLLAPSED = 0.1, 0.01, 0.5, 3.0, 0.9
IDLE_BY_CHANCE = 0.01  # largest probability that fair routing leaves any expert idle
NEARLY_CONSTANT, MOSTLY_SATURATED, AT_AN_END = 1e-3, 0.95, 1e-3
MANY_FLIPS = 0.5


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Routed:
    """The routing of a text.

    Attributes:
        data: `expert_id` of all tokens that count; if the rule is known, also `router_score`, and the variables that
            margins need under that rule.
        rule: the router rule; if it is not known, only its numbers of experts mean something.
        rounded: the same variables from a run of the same tokens in bfloat16; None without this run.
        is_known: whether the rule selects as the router does.
        table_layers: layers whose experts follow from the token id alone, so that no score decides.
        idle_from: first choice of the router that computes nothing; None if every choice is an expert.
    """

    data: xr.Dataset
    rule: RouterRule
    rounded: xr.Dataset | None = None
    is_known: bool = True
    table_layers: tuple[int, ...] = ()
    idle_from: int | None = None

    @property
    def num_experts(self) -> int:
        """The number of choices that are experts."""
        return self.rule.num_experts if self.idle_from is None else self.idle_from

    @property
    def decided(self) -> xr.Dataset:
        """The layers in which scores select the experts; none if the rule is not known."""
        by_score = ~np.isin(self.data["moe_layer"].values, self.table_layers) & self.is_known
        return self.data.isel(moe_layer=np.flatnonzero(by_score))


def measure(routed: Routed) -> list[dict[str, Number]]:
    """Return the statistics of every MoE layer, one row per layer; NaN where no score decides."""
    data, rule = routed.data, routed.rule
    counts = metrics.tokens_per_expert(data["expert_id"], rule.num_experts)
    band, num_tokens = band_of(rule, data.sizes["token"]), data.sizes["token"]
    of_experts = slice(routed.num_experts)
    columns = {
        "MaxVio": metrics.max_violation(counts),
        "entropy": metrics.normalised_entropy(counts),
        "dead": metrics.dead_experts(counts).isel(expert=of_experts).sum("expert"),
        "hot": metrics.hot_experts(counts).isel(expert=of_experts).sum("expert"),
        "lowest share": counts.isel(expert=of_experts).min("expert") / num_tokens,
        "highest share": counts.isel(expert=of_experts).max("expert") / num_tokens,
    }
    decided = routed.decided
    if decided.sizes["moe_layer"]:
        of_scores = {
            "near ties (bf16)": near_ties(decided, "bfloat16", rule).mean("token"),
            "near ties (fp32)": near_ties(decided, "float32", rule).mean("token"),
            "median affinity chosen": _chosen_scores(decided).median(("token", "rank")),
        }
        columns |= {name: values.reindex(moe_layer=data["moe_layer"]) for name, values in of_scores.items()}
    if routed.rounded is not None:
        columns["other experts in bf16"] = flips(data, routed.rounded).mean("token")
    rows: list[dict[str, Number]] = []
    for index, layer in enumerate(counts["moe_layer"].values.tolist()):
        row: dict[str, Number] = {"layer": layer, "tokens": num_tokens}
        row |= {name: _plain(values.values[index]) for name, values in columns.items()}
        rows.append(row | {"MaxVio by chance": math.nan if band is None else band.max_violation})
    return rows


def flips(data: xr.Dataset, rounded: xr.Dataset) -> xr.DataArray:
    """Return a mask of decisions that select different experts in `data` and in `rounded`, [token, moe_layer] bool."""
    num_experts = 1 + max(int(each["expert_id"].max()) for each in (data, rounded))
    changed = (one_hot(data["expert_id"], num_experts) != one_hot(rounded["expert_id"], num_experts)).any(-1)
    return data["expert_id"].isel(rank=0, drop=True).copy(data=changed)


def judge(routed: Routed) -> Iterator[Finding]:
    """Yield the findings on the routing of a text."""
    data, rule, decided = routed.data, routed.rule, routed.decided
    counts = metrics.tokens_per_expert(data["expert_id"], rule.num_experts)
    for index, layer in enumerate(counts["moe_layer"].values.tolist()):
        yield from _load(layer, counts.values[index][: routed.num_experts], data.sizes["token"], rule)
    for index, layer in enumerate(decided["moe_layer"].values.tolist()):
        if rule.num_groups > 1:
            yield from _groups(layer, decided["group_kept"].values[:, index], rule)
        yield from _scores(layer, decided["router_score"].values[:, index], rule)
    yield from _above_chance(counts, routed)
    if decided.sizes["moe_layer"]:
        yield _ties(routed)
    if routed.rounded is not None:
        yield _rounding(routed)


# --- load ------------------------------------------------------------------------------------------------------------


def _load(layer: int, counts: np.ndarray, num_tokens: int, rule: RouterRule) -> Iterator[Finding]:
    busiest = np.sort(counts)[::-1][: rule.top_k].sum() / max(1, counts.sum())
    if busiest >= COLLAPSED and rule.top_k < len(counts):
        what = f"L{layer} has collapsed: {rule.top_k} of {len(counts)} experts take {busiest:.0%} of all choices"
        meaning = "The other experts do nothing. Balancing was off, or its bias was lost or has an absurd size."
        yield Finding(ERROR, LOAD, what, meaning, {"share": float(busiest), "tokens": num_tokens}, layer)
        return
    dead, rare, hot = [], [], []
    chance_of_idle = (1 - rule.fair_share) ** num_tokens * rule.num_experts
    for expert, count in enumerate(counts.tolist()):
        low, high = share_interval(count, num_tokens)
        evidence = {"tokens": count, "of": num_tokens, "from": low, "to": high, "fair share": rule.fair_share}
        if high < STARVED * rule.fair_share and chance_of_idle < IDLE_BY_CHANCE:
            found = _seldom(layer, expert, evidence, rule)
            (rare if found.severity == NOTE else dead).append(found)
        elif low > HALF and low > HOT * rule.fair_share:
            share = count / num_tokens
            ratio = share / rule.fair_share
            what = f"L{layer}E{expert} took {share:.0%} of {num_tokens:,} tokens, {ratio:.3g} fair shares"
            meaning = "The layer waits for it. Its bias is too high, its router row too long, or balancing was off."
            hot.append(Finding(WARNING, LOAD, what, meaning, evidence, layer, expert))
    yield from shortened(dead, f"dead experts of L{layer}")
    yield from shortened(rare, f"rarely selected experts of L{layer}")
    yield from shortened(hot, f"hot experts of L{layer}")


def _seldom(layer: int, expert: int, evidence: dict[str, Number], rule: RouterRule) -> Finding:
    """Return the finding on a starved expert: a warning if it is dead, a note if it is only rarely selected."""
    count, num_tokens = int(evidence["tokens"]), int(evidence["of"])
    shares = count / num_tokens / rule.fair_share
    took = "took no token" if count == 0 else f"took {count:,} token{'s' if count > 1 else ''}"
    if shares >= DEAD:
        meaning = (
            "Rarely selected, not dead: it serves texts of another kind than these, or later training without "
            "balancing, such as fine-tuning on answers, moved its tokens to other experts."
        )
        what = f"L{layer}E{expert} {took} of {num_tokens:,}, {shares:.2g} fair shares"
        return Finding(NOTE, LOAD, what, meaning, evidence, layer, expert)
    what = f"L{layer}E{expert} {took} of {num_tokens:,}; at most {evidence['to']:.2%} of such tokens select it"
    meaning = "A dead expert: its router row or its bias keeps it out. Or it serves texts of another kind than these."
    return Finding(WARNING, LOAD, what, meaning, evidence, layer, expert)


def _above_chance(counts: xr.DataArray, routed: Routed) -> Iterator[Finding]:
    """Yield one note, for all layers, if the load of at least one layer is less even than chance explains."""
    num_tokens = routed.data.sizes["token"]
    violation, band = metrics.max_violation(counts), band_of(routed.rule, num_tokens)
    if band is None or not (violation > band.max_violation).any():
        return
    above = violation > band.max_violation
    worst = int(violation.values.argmax())
    layer, expert = int(violation["moe_layer"][worst]), int(counts.values[worst].argmax())
    what = f"in {int(above.sum())} of {above.size} layers the busiest expert carries more than chance explains"
    meaning = "Expected of a text: its tokens select some experts more often. A balanced model is even over much text."
    evidence = {
        "largest MaxVio": float(violation[worst]),
        "by chance": band.max_violation,
        "mean MaxVio": float(violation.mean()),
        "tokens": num_tokens,
    }
    yield Finding(NOTE, LOAD, what, meaning, evidence, layer, expert if expert < routed.num_experts else None)


def _groups(layer: int, kept_TG: np.ndarray, rule: RouterRule) -> Iterator[Finding]:
    if rule.num_groups == 1 or rule.num_kept_groups == rule.num_groups:
        return
    fair, num_tokens = rule.num_kept_groups / rule.num_groups, len(kept_TG)
    for group, taken in enumerate(kept_TG.sum(0).tolist()):
        low, high = share_interval(taken, num_tokens)
        if high < STARVED * fair:
            what = f"L{layer}: group {group} was kept by {taken:,} of {num_tokens:,} tokens, a fair share is {fair:.0%}"
            meaning = (
                "All experts of the group are starved at once: all their biases are too low, or router rows are lost."
            )
            evidence = {"tokens": taken, "of": num_tokens, "from": low, "to": high, "fair share": fair}
            yield Finding(WARNING, GROUPS, what, meaning, evidence, layer, group * rule.num_experts // rule.num_groups)


# --- scores ----------------------------------------------------------------------------------------------------------


def _scores(layer: int, scores_TE: np.ndarray, rule: RouterRule) -> Iterator[Finding]:
    if not np.isfinite(scores_TE).all():
        number = int((~np.isfinite(scores_TE)).sum())
        what = f"L{layer}: {number:,} affinities are NaN or infinite"
        yield Finding(ERROR, SCORES, what, "The input of the router is already broken.", {"affinities": number}, layer)
        return
    if not SCORINGS[rule.scoring].saturates:
        return
    spread, ends = float(scores_TE.std()), float((np.minimum(scores_TE, 1 - scores_TE) < AT_AN_END).mean())
    evidence = {"standard deviation": spread, "share at an end": ends}
    if spread < NEARLY_CONSTANT:
        what = f"L{layer}: all affinities are alike ({np.median(scores_TE):.3g})"
        yield Finding(WARNING, SCORES, what, "All experts score alike; the bias alone decides.", evidence, layer)
    elif ends > MOSTLY_SATURATED:
        what = f"L{layer}: {ends:.0%} of the affinities stand at 0 or 1"
        meaning = "The router's rows or its input are far too large: saturated affinities no longer rank experts."
        yield Finding(WARNING, SCORES, what, meaning, evidence, layer)


def _ties(routed: Routed) -> Finding:
    data, rule, rounded = routed.decided, routed.rule, routed.rounded
    share, exact = (near_ties(data, dtype, rule).mean("token") for dtype in ("bfloat16", "float32"))
    worst = int(share.values.argmax())
    what = f"{float(share.mean()):.1%} of the decisions are so close that rounding to bfloat16 could turn them"
    meaning = "Engines that compute in another precision will differ there without a fault; see the margins on Routing."
    evidence = {
        "mean share": float(share.mean()),
        "largest share": float(share[worst]),
        "mean share in fp32": float(exact.mean()),
        "decisions": share.size * data.sizes["token"],
    }
    if rounded is not None:
        turned = float(flips(data, rounded.sel(moe_layer=data["moe_layer"])).mean())
        what, evidence["did turn"] = f"{what}; in a run in bfloat16 {turned:.1%} did turn", turned
    return Finding(NOTE, TIES, what, meaning, evidence, int(share["moe_layer"][worst]))


def _rounding(routed: Routed) -> Finding:
    assert routed.rounded is not None
    changed, decided = flips(routed.data, routed.rounded), routed.decided
    share = changed.mean("token")
    worst, mean = int(share.values.argmax()), float(share.mean())
    what = f"run in bfloat16, {mean:.1%} of the decisions took another set of experts"
    meaning = "Measured by a second run of the same tokens. Changes without a near tie follow from earlier layers."
    evidence: dict[str, Number] = {"mean share": mean, "largest share": float(share[worst])}
    if decided.sizes["moe_layer"]:
        turned = changed.sel(moe_layer=decided["moe_layer"])
        near = near_ties(decided, "bfloat16", routed.rule).values
        evidence["of them near ties"] = float((near & turned.values).sum() / max(1, int(turned.sum())))
    evidence["decisions"] = changed.size
    severity = WARNING if mean > MANY_FLIPS else NOTE
    return Finding(severity, ROUNDING, what, meaning, evidence, int(share["moe_layer"][worst]))


def _chosen_scores(data: xr.Dataset) -> xr.DataArray:
    chosen = np.take_along_axis(data["router_score"].values, data["expert_id"].values.astype(np.int64), -1)
    return data["expert_id"].copy(data=chosen)


def _plain(value: np.generic) -> Number:
    return value.item()
