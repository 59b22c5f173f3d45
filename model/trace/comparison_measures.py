"""Measures of comparisons, which an automatic test can check against limits."""

import math

from model.trace import rollout
from model.trace.comparison import CHANGE, UNDECIDED, Comparison

# Name of a measure -> meaning. A measure is NaN if the traces lack its variables.
MEASURES = {
    "changed-share": "share of compared choices that differ, except near ties and those after an earlier split",
    **rollout.FIGURES,
    "k1": f"absolute value of the {rollout.FIGURES['k1']}",
    "jaccard-loss": "1 minus the mean Jaccard index of the chosen experts",
    "weight-difference": "largest difference of a weight of an expert that both traces chose",
    "logprob-difference": "largest difference of a token's log-probability, nats",
    "bias-difference": "largest difference of an expert's bias",
    "unaligned-share": "tokens of both traces that could not be aligned",
    "renumbered-layers": "layers whose experts have other numbers",
    "faults": "ways in which the traces contradict their own numbers",
}


def measures(*comparisons: Comparison, tau: float = rollout.TAU) -> dict[str, float]:
    """Return the value of every measure of `MEASURES`, over all documents together.

    Args:
        comparisons: a comparison per document.
        tau: ratio of probabilities above which a token counts in `ratio-share`.
    """
    compared = sum(each.num_compared for each in comparisons)
    changed = sum(each.count(CHANGE) + each.count(UNDECIDED) for each in comparisons)
    aligned = sum(2 * len(each.alignment.pairs) for each in comparisons)
    total = sum(each.a.num_tokens + each.b.num_tokens for each in comparisons)
    index = [float(each.choices["jaccard"].sum()) for each in comparisons]
    figures = {name: ratio.value for name, ratio in rollout.ratios(comparisons, tau).items()}
    values = {
        "changed-share": changed / compared if compared else math.nan,
        **figures,
        "k1": abs(figures["k1"]),
        "jaccard-loss": 1 - sum(index) / compared if compared else math.nan,
        "weight-difference": _largest([float(each.choices["weight_difference"].max()) for each in comparisons]),
        "logprob-difference": _largest([float(abs(each.choices["logprob_difference"]).max()) for each in comparisons]),
        "bias-difference": _largest([float(each.layers["bias_difference"].max()) for each in comparisons]),
        "unaligned-share": 1 - aligned / total,
        "renumbered-layers": float(sum(len(each.renumbered) for each in comparisons)),
        "faults": float(sum(len(each.faults_a) + len(each.faults_b) for each in comparisons)),
    }
    return {name: values[name] for name in MEASURES}


def _largest(values: list[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)
