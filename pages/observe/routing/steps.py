"""The seven steps of a routing decision, each with its equation in LaTeX and the numbers of one expert in it."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from model.trace.decision import Decision
from model.trace.router_rule import IDENTITY, SIGMOID, SOFTMAX, SQRTSOFTPLUS
from model.trace.shape import LOGIT

MEASURED, DERIVED = "measured", "derived"
TERMS = 4  # terms of a sum per line: eight do not fit beside the words on a projector


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step of a decision.

    Attributes:
        name: number and name of the step.
        text: what the router does in this step.
        tag: origin of the result, such as `MEASURED`.
        equation: equation in LaTeX; may be empty.
    """

    name: str
    text: str
    tag: str
    equation: str


def steps(decision: Decision, expert: int, observed: str = MEASURED) -> list[Step]:
    """Return the steps of a decision for one expert; the steps of groups only if several groups were recorded.

    Args:
        decision: decision of one layer for one token.
        expert: expert whose numbers are in the equations.
        observed: tag of recorded numbers.
    """
    parts = _steps(_Numbers(decision, expert), observed)
    return [dataclasses.replace(part, name=f"{number}  {part.name}") for number, part in enumerate(parts, 1)]


class _Numbers:
    """The numbers of a decision for one expert."""

    def __init__(self, decision: Decision, expert: int) -> None:
        self.decision, self.expert = decision, expert
        at = decision.experts.isel(expert=expert)
        self.logit, self.affinity, self.bias = (float(at[name]) for name in ("logit", "affinity", "bias"))
        self.biased, self.share, self.weight = (float(at[name]) for name in ("biased", "share", "weight"))
        self.expected, self.group, self.factor = float(at["expected"]), int(at["group"]), float(at["factor"])
        self.chosen, self.reachable = bool(at["chosen"]), bool(at["reachable"])

    def biased_of(self, expert: int) -> float:
        return float(self.decision.experts["biased"].values[expert])


def _steps(at: _Numbers, observed: str) -> Iterator[Step]:
    scoring = SCORINGS[at.decision.rule.scoring]
    yield _recorded_logit(at, observed) if at.decision.logit_kind == LOGIT else scoring.logit_step(at)
    yield scoring.affinity_step(at, observed)
    yield _with_bias(at)
    if at.decision.groups and at.decision.groups.sizes["group"] > 1:
        yield _group_score(at, observed)
        yield _kept(at, observed)
    yield _place(at, observed)
    yield _weight(at, observed)


def _recorded_logit(at: _Numbers, observed: str) -> Step:
    text = "The router compares the token's state with this expert's vector."
    return Step("Logit", text, observed, f"z_{{{at.expert}}} = {at.logit:.3f}")


def _logit_of_sigmoid(at: _Numbers) -> Step:
    e, s = at.expert, number(at.affinity)
    text = (
        "The router compares the token's state with this expert's vector. The trace holds the affinity; the logit is "
        "computed back from it."
    )
    if not math.isfinite(at.logit):
        return Step(
            "Logit",
            f"{text} This affinity was rounded to {at.affinity:g}: only the logit's sign is known.",
            DERIVED,
            "",
        )
    equation = rf"z_{{{e}}} = \ln \frac{{s_{{{e}}}}}{{1 - s_{{{e}}}}} = \ln \frac{{{s}}}{{1 - {s}}} = {at.logit:.3f}"
    return Step("Logit", text, DERIVED, equation)


def _sigmoid(at: _Numbers, observed: str) -> Step:
    e, s = at.expert, number(at.affinity)
    text = "A sigmoid turns each expert's logit into a number from 0 to 1."
    put_in = rf"\frac{{1}}{{1 + e^{{{-at.logit:.3f}}}}} = " if math.isfinite(at.logit) else ""
    return Step("Affinity", text, observed, rf"s_{{{e}}} = \sigma(z_{{{e}}}) = {put_in}{s}")


def _logit_of_softmax(at: _Numbers) -> Step:
    e, s = at.expert, number(at.affinity)
    text = (
        "The router compares the token's state with each expert's vector. A softmax keeps the logits only up to a "
        "constant that all experts of the token share: ln s is the logit minus that constant."
    )
    equation = rf"\ln s_{{{e}}} = z_{{{e}}} - \ln \textstyle\sum_j e^{{z_j}} = \ln {s} = {at.logit:.3f}"
    return Step("Logit", text, DERIVED, equation)


def _softmax(at: _Numbers, observed: str) -> Step:
    e, s = at.expert, number(at.affinity)
    text = "A softmax turns the logits into shares that sum to 1 over all experts."
    return Step("Affinity", text, observed, rf"s_{{{e}}} = \frac{{e^{{z_{{{e}}}}}}}{{\sum_j e^{{z_j}}}} = {s}")


def _logit_of_sqrtsoftplus(at: _Numbers) -> Step:
    e, s = at.expert, number(at.affinity)
    text = (
        "The router compares the token's state with this expert's vector. The logit shown here is computed back from "
        "the affinity."
    )
    if not math.isfinite(at.logit):
        return Step("Logit", f"{text} This affinity was rounded to {at.affinity:g}.", DERIVED, "")
    equation = rf"z_{{{e}}} = \ln (e^{{s_{{{e}}}^2}} - 1) = \ln (e^{{{s}^2}} - 1) = {at.logit:.3f}"
    return Step("Logit", text, DERIVED, equation)


def _sqrtsoftplus(at: _Numbers, observed: str) -> Step:
    e, s = at.expert, number(at.affinity)
    text = "The affinity is the square root of the softplus of the logit: 0 or more, without an upper limit."
    put_in = rf"\sqrt{{\ln (1 + e^{{{at.logit:.3f}}})}} = " if math.isfinite(at.logit) else ""
    return Step("Affinity", text, observed, rf"s_{{{e}}} = \sqrt{{\ln (1 + e^{{z_{{{e}}}}})}} = {put_in}{s}")


def _logit_of_identity(at: _Numbers) -> Step:
    e, s = at.expert, number(at.affinity)
    text = "This router returns a probability per expert. The logits before its softmax are not recorded."
    return Step("Router output", text, MEASURED, f"z_{{{e}}} = {s}")


def _identity(at: _Numbers, observed: str) -> Step:
    e, s = at.expert, number(at.affinity)
    return Step(
        "Affinity", "The affinity is the router's probability itself.", observed, f"s_{{{e}}} = z_{{{e}}} = {s}"
    )


class Scoring(NamedTuple):
    """The explanation of a scoring function, which turns logits into affinities.

    Attributes:
        logit: name of the quantity that the page shows as the logit.
        reservation: text on how this quantity differs from the logit; may be empty.
        logit_step: function that returns the first step.
        affinity_step: function that returns the second step.
    """

    logit: str
    reservation: str
    logit_step: Callable[[_Numbers], Step]
    affinity_step: Callable[[_Numbers, str], Step]


# The keys are those of `router_rule.SCORINGS`.
SCORINGS = {
    SIGMOID: Scoring("logit", "", _logit_of_sigmoid, _sigmoid),
    SOFTMAX: Scoring("ln affinity", " (logit minus a constant that all experts share)", _logit_of_softmax, _softmax),
    SQRTSOFTPLUS: Scoring("logit", "", _logit_of_sqrtsoftplus, _sqrtsoftplus),
    IDENTITY: Scoring("router output", " (a probability)", _logit_of_identity, _identity),
}


def _with_bias(at: _Numbers) -> Step:
    biases, e, rule = at.decision.experts["bias"].values, at.expert, at.decision.rule
    if at.decision.by_table:
        text = "A table gives the experts of each token id, so neither affinity nor bias takes part in the choice."
        return Step("Bias", text, DERIVED, "")
    if not biases.any():
        text = "This router has no bias: it compares the affinities themselves."
        return Step("Bias", text, DERIVED, rf"c_{{{e}}} = s_{{{e}}} = {number(at.biased)}")
    mean = at.decision.mean_bias
    text = (
        "The bias balances the load. It takes part in the choice, but not in the weight. The layer's mean bias is "
        f"{mean:.4f}, which changes no choice; relative to it, E{e} gets {at.bias - mean:+.2g}."
    )
    symbol, score = ("z", at.logit) if rule.bias_on_logits else ("s", at.affinity)
    put_in = f"{number(score)} {_signed(at.bias)} = {number(at.biased)}"
    return Step("Bias", text, DERIVED, rf"c_{{{e}}} = {symbol}_{{{e}}} + b_{{{e}}} = {put_in}")


def _group_score(at: _Numbers, observed: str) -> Step:
    g, score = at.group, number(float(at.decision.groups["score"][at.group]))
    if not at.decision.untouched:
        text = f"E{at.expert} is in group {g}. This is its score as recorded in the changed run."
        return Step("Group score", text, observed, f"G_{{{g}}} = {score}")
    members = at.decision.members(g).tolist()
    if at.decision.rule.scores_per_group == 1:
        text = f"E{at.expert} is in group {g}. A group is judged by its best expert, here E{members[0]}."
        return Step("Group score", text, observed, rf"G_{{{g}}} = \max_{{j \in g}} c_j = c_{{{members[0]}}} = {score}")
    names = " + ".join(f"c_{{{j}}}" for j in members)
    values = " + ".join(number(at.biased_of(j)) for j in members)
    best = " and ".join(f"E{member}" for member in members)
    text = f"E{at.expert} is in group {g}. A group is judged by the sum of its two best, here {best}."
    same = _same(float(at.decision.groups["expected"][g]), float(at.decision.groups["score"][g]))
    return Step("Group score", text, observed, rf"G_{{{g}}} = {names} = {values} {same} {score}")


def _kept(at: _Numbers, observed: str) -> Step:
    g, scores, kept = at.group, at.decision.groups["score"].values, at.decision.groups["kept"].values
    count, total = np.count_nonzero(kept), len(kept)
    listed = ", ".join(str(group) for group in np.flatnonzero(kept))
    text = f"The best {count} of {total} groups stay: {listed}. Group {g} {'is one of them' if kept[g] else 'is not'}."
    if not at.decision.untouched or count == total:
        return Step("Kept groups", text if count < total else "All groups stay.", observed, "")
    out = np.flatnonzero(~kept)
    rival = int(out[scores[out].argmax()]) if kept[g] else int(np.flatnonzero(kept)[scores[kept].argmin()])
    return Step("Kept groups", text, observed, _against(f"G_{{{g}}}", scores[g], f"G_{{{rival}}}", scores[rival]))


def _place(at: _Numbers, observed: str) -> Step:
    e, chosen = at.expert, at.decision.chosen
    within = "within the kept groups " if at.decision.groups and not at.decision.groups["kept"].all() else ""
    text = f"The best {len(chosen)} {within}are chosen. "
    if at.decision.by_table or not at.decision.untouched:
        by = " by the token id" if at.decision.by_table else ""
        return Step("Top-k", f"E{e} {'was chosen' if at.chosen else 'was not chosen'}{by}.", observed, "")
    if at.chosen:
        text += f"E{e} is number {chosen.tolist().index(e) + 1} of {len(chosen)}."
        out = np.flatnonzero(at.decision.experts["reachable"].values & ~at.decision.experts["chosen"].values)
        rival = int(out[at.decision.experts["biased"].values[out].argmax()]) if len(out) else None
    elif not at.reachable:
        return Step("Top-k", f"{text}E{e} cannot be chosen: its group was not kept.", observed, "")
    else:
        text += (
            f"E{e} is not one of them; the last one chosen was E{chosen[-1]}."
            if len(chosen)
            else f"E{e} is not one of them."
        )
        rival = int(chosen[-1]) if len(chosen) else None
    if rival is None:
        return Step("Top-k", text, observed, f"c_{{{e}}} = {number(at.biased)}")
    return Step("Top-k", text, observed, _against(f"c_{{{e}}}", at.biased, f"c_{{{rival}}}", at.biased_of(rival)))


def _weight(at: _Numbers, observed: str) -> Step:
    e, decision = at.expert, at.decision
    if not at.chosen:
        return Step("Weight", f"E{e} was not chosen: it computes nothing for this token.", observed, "")
    if not math.isfinite(at.weight):
        return Step("Weight", "The trace does not hold the weights.", observed, "")
    result, scale = number(at.weight), decision.rule.routed_scale
    if decision.idle_from is not None and e >= decision.idle_from:
        text = f"E{e} computes nothing: with this choice the token skips an expert. This is its weight as recorded."
        return Step("Weight", text, observed, rf"g_{{{e}}} = {result}")
    if scale is None or decision.rule.normalise_weights is None or not decision.untouched:
        text = "As recorded. " + (
            "" if decision.untouched else "In a changed run the weight need not follow from the affinities."
        )
        return Step("Weight", text, observed, rf"g_{{{e}}} = {result}")
    same, factor = _same(at.expected, at.weight), f"{scale:g}"
    if decision.rule.has_expert_factor:
        factor = rf"{factor} \cdot {number(at.factor)}" if scale != 1 else number(at.factor)
    bare = ", without the bias" if decision.rule.has_selection_bias else ""
    if not decision.rule.normalise_weights:
        what = f"times {_factors(at, scale)}" if decision.rule.has_expert_factor else "times a fixed factor"
        text = f"The weight is the affinity itself{bare}{'' if factor == '1' else f', {what}'}."
        put_in = rf"{factor} \cdot s_{{{e}}} = {factor} \cdot {number(at.affinity)}"
        return Step("Weight", text, observed, rf"g_{{{e}}} = {put_in} {same} {result}")
    text = (
        f"The affinities of the chosen{f'{bare},' if bare else ''} are divided by their sum; E{e} gets a share of "
        f"{at.share:.4g} (derived). The weight is this share{'' if factor == '1' else f' times {_factors(at, scale)}'}."
    )
    return Step("Weight", text, observed, _normalised(at, factor, f"{same} {result}"))


def _factors(at: _Numbers, scale: float) -> str:
    """Return what a share is multiplied by: the factor of all experts, and the expert's own factor if it has one."""
    if not at.decision.rule.has_expert_factor:
        return f"{scale:g}"
    return f"the factor {at.factor:.4g} of E{at.expert}" + (f" and by {scale:g}" if scale != 1 else "")


def _normalised(at: _Numbers, factor: str, result: str) -> str:
    """Return the equation of a normalised weight, with the sum of affinities written out, four terms per line."""
    e, taken = at.expert, at.decision.experts["affinity"].values[at.decision.chosen].astype(float)
    lines = [" + ".join(map(number, taken[first : first + TERMS])) for first in range(0, len(taken), TERMS)]
    written_out, total = r" \\ &\quad + ".join(lines), number(at.decision.affinity_sum)
    rule = rf"{factor} \cdot \frac{{s_{{{e}}}}}{{\sum s_j}}"
    put_in = rf"{factor} \cdot \frac{{{number(at.affinity)}}}{{{total}}}"
    return (
        rf"\begin{{aligned}} \textstyle\sum s_j &= {written_out} = {total} \\ "
        rf"g_{{{e}}} &= {rule} = {put_in} {result} \end{{aligned}}"
    )


def number(value: float) -> str:
    r"""Return a number in LaTeX: four decimals, so that the sums on the page add up; three digits if it is small.

    >>> number(0.73421), number(-2.5), number(0.007531), number(0.000123), number(0.0)
    ('0.7342', '-2.5000', '0.00753', '1.23 \\cdot 10^{-4}', '0')
    """
    if abs(value) >= 0.1 or value == 0:
        return f"{value:.4f}" if value else "0"
    if abs(value) >= 1e-3:
        return f"{value:.3g}"
    digits, power = f"{value:.2e}".split("e")
    return rf"{float(digits):g} \cdot 10^{{{int(power)}}}"


def _signed(value: float) -> str:
    return f"+ {number(value)}" if value >= 0 else f"- {number(-value)}"


def _same(rule: float, recorded: float) -> str:
    """Return the LaTeX sign between two numbers: equal if they differ by at most a thousandth, else unequal."""
    return "=" if abs(rule - recorded) <= 1e-3 * max(1.0, abs(recorded)) else r"\ne"


def _against(name: str, value: float, rival_name: str, rival: float) -> str:
    """Return the comparison of a score with a rival score in LaTeX, with their difference."""
    sign = ">" if value > rival else "<" if value < rival else "="
    return rf"{name} = {number(value)} \;{sign}\; {number(rival)} = {rival_name} \quad ({_difference(value - rival)})"


def _difference(value: float) -> str:
    digits, _, power = f"{value:+.3g}".partition("e")
    return rf"{digits} \cdot 10^{{{int(power)}}}" if power else digits
