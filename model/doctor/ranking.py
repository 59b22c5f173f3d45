"""Compares the selection by scores in bfloat16 with that in fp32: a large selection bias costs affinities their digits.

bfloat16 keeps 8 significant bits. The sum of an affinity and a bias of 60 has steps of 0.25: affinities between 0 and 1
that differ by less become equal. Recorded affinities and biases are rounded and added; nothing is run again.

Thresholds: a layer gets a warning if rounding changes more than a tenth of its selections, and at least three times as
many as without the bias.
"""

from collections.abc import Iterator

import numpy as np
import torch

from model.doctor.findings import WARNING, Finding
from model.doctor.load import Routed
from model.trace.router_rule import RouterRule

NAME = "bf16 ranking"
CHANGED, TIMES = 0.1, 3.0


def check_ranking(routed: Routed) -> Iterator[Finding]:
    """Yield a finding per layer in which the sum of affinity and bias has too few digits in bfloat16."""
    rule = routed.rule
    if not rule.has_selection_bias:
        return
    decided = routed.decided
    for index, layer in enumerate(decided["moe_layer"].values.tolist()):
        scores_TE = decided["router_logit" if rule.bias_on_logits else "router_score"].values[:, index]
        bias_E = decided["expert_bias"].values[index]
        if not (np.isfinite(scores_TE).all() and np.isfinite(bias_E).all()):
            continue
        changed, by_itself = changed_share(scores_TE, bias_E, rule), changed_share(scores_TE, 0 * bias_E, rule)
        if changed > CHANGED and changed >= TIMES * by_itself:
            expert = int(np.abs(bias_E).argmax())
            step = float(np.ldexp(1.0, int(np.frexp(np.abs(bias_E[expert]))[1]) - 8))
            what = f"L{layer}: with scores in bfloat16, {changed:.0%} of the tokens would select other experts"
            meaning = (
                f"The largest bias is {bias_E[expert]:+.3g}; at that size bfloat16 has steps of {step:.2g}, and "
                "affinities that differ by less are ranked by chance. Keep router and bias in fp32."
            )
            evidence = {
                "share of tokens": changed, "without the bias": by_itself, "largest bias": float(bias_E[expert]),
                "bfloat16 step": step, "tokens": len(scores_TE),
            }  # fmt: skip
            yield Finding(WARNING, NAME, what, meaning, evidence, layer, expert)


def changed_share(scores_TE: np.ndarray, bias_E: np.ndarray, rule: RouterRule) -> float:
    """Return the share of tokens whose selected experts change if scores, bias and sum are rounded to bfloat16.

    Args:
        scores_TE: affinities, or logits if the rule adds its bias to logits, [token, expert].
        bias_E: selection bias, [expert].
        rule: the router rule.
    """
    exact_TE = rule.select((scores_TE + bias_E).astype(np.float32))
    rounded_TE = rule.select(_rounded(_rounded(scores_TE) + _rounded(bias_E)))
    return float((exact_TE != rounded_TE).any(-1).mean())


def _rounded(values: np.ndarray) -> np.ndarray:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).bfloat16().float().numpy()
