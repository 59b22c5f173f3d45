"""Compare the engine of a rollout with its trainer: routing and probabilities of the same tokens.

Router replay (R3) makes the trainer use the experts that the engine selected. These figures say how far the two differ
without it. Run A is the rollout, run B the trainer. Every figure is a sum over documents divided by another sum over
documents, so its interval is over documents (`model/trace/documents.py`).

With delta = log p of B minus log p of A, for each token that A generated:

- k1 is the mean of -delta, and k3 the mean of e^delta - 1 - delta. Both estimate the divergence KL(A || B) in nats.
- F(tau), the share of extreme ratios, is the share of tokens whose |delta| exceeds ln tau.

If A generated no token, the figures of probabilities hold for all tokens; k1 and k3 then estimate no divergence.

Source: R3, arXiv 2510.11370; k3: http://joschu.net/blog/kl-approx.html, as in verl's `rollout_corr/k3_kl`.

Letters: D documents, L MoE layers.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from model.trace.comparison import FOLLOWS, SAME, UNKNOWN, VERDICTS, CompareError, Comparison
from model.trace.documents import FEWEST, paired_difference, ratio_interval

TAU = 2.0
# Figure -> meaning, in the order of a report.
FIGURES = {
    "split-share": "share of compared choices that differ",
    "split-tokens": "share of tokens with a choice that differs",
    "split-layers": "mean number of layers in which a token's choice differs",
    "slot-loss": "share of selected experts that the other run did not select",
    "k1": "k1 estimate of KL(A || B), nats",
    "k3": "k3 estimate of KL(A || B), nats",
    "ratio-share": "share of tokens whose probabilities differ by more than the factor --tau; above 0.1 is a danger",
    "probability-difference": "mean absolute difference of a token's probability; verl calls 0.01 a fault",
}


_SHARES = ("split-share", "split-tokens", "slot-loss", "ratio-share", "probability-difference")


class Ratio(NamedTuple):
    """A sum over documents divided by another one.

    Attributes:
        parts_D: numerator of each document.
        sizes_D: denominator of each document.
    """

    parts_D: np.ndarray
    sizes_D: np.ndarray

    @property
    def value(self) -> float:
        """The ratio; NaN if nothing was compared."""
        size = float(self.sizes_D.sum())
        return float(self.parts_D.sum()) / size if size else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval over documents; NaN below `FEWEST` documents."""
        if not self.sizes_D.sum():
            return math.nan, math.nan
        low, high = ratio_interval(self.parts_D, self.sizes_D)
        return float(low), float(high)


def ratios(comparisons: Sequence[Comparison], tau: float = TAU) -> dict[str, Ratio]:
    """Return the ratio of every figure of `FIGURES`.

    Args:
        comparisons: a comparison per document; `a` is the rollout.
        tau: ratio of probabilities above which a token counts in `ratio-share`.

    Raises:
        CompareError: the log-probabilities of a document belong to different temperatures.
    """
    generated = sampled(comparisons)
    rows = [_sums(comparison, generated, tau) for comparison in comparisons]
    return {name: Ratio(*np.array([row[name] for row in rows], float).reshape(-1, 2).T) for name in FIGURES}


def sampled(comparisons: Sequence[Comparison]) -> bool:
    """Return whether run A generated tokens; if so, the figures of probabilities are about those tokens only."""
    return any(token.generated for comparison in comparisons for token in comparison.a.tokens)


def _sums(comparison: Comparison, generated: bool, tau: float) -> dict[str, tuple[float, float]]:
    """Return numerator and denominator of every figure for one document."""
    known = comparison.choices["verdict"].values != UNKNOWN
    top_k = max(trace.data.sizes["rank"] for trace in (comparison.a, comparison.b))
    delta, distance = _probabilities(comparison, generated)
    return document_sums(comparison.choices["shared"].values, known, comparison.is_split, top_k, delta, distance, tau)


def document_sums(
    shared: np.ndarray,
    known: np.ndarray,
    split: np.ndarray,
    top_k: int,
    delta: np.ndarray,
    distance: np.ndarray,
    tau: float = TAU,
) -> dict[str, tuple[float, float]]:
    """Return numerator and denominator of every figure of `FIGURES` for one document.

    Args:
        shared: number of experts that both runs selected, [token, layer].
        known: whether both runs recorded their experts.
        split: whether their sets differ.
        top_k: number of selected experts.
        delta: log-probability in B minus that in A, of the tokens that have both.
        distance: absolute difference of their probabilities.
        tau: as for `ratios`.
    """
    tokens, slots = int(known.any(1).sum()), int(known.sum()) * top_k
    with np.errstate(over="ignore"):
        k3 = float((np.expm1(delta) - delta).sum())
    return {
        "split-share": (int(split.sum()), int(known.sum())),
        "split-tokens": (int(split.any(1).sum()), tokens),
        "split-layers": (int(split.sum()), tokens),
        "slot-loss": (slots - int(shared[known].sum()), slots),
        "k1": (-float(delta.sum()), len(delta)),
        "k3": (k3, len(delta)),
        "ratio-share": (int((np.abs(delta) > math.log(tau)).sum()), len(delta)),
        "probability-difference": (float(distance.sum()), len(delta)),
    }


def _probabilities(comparison: Comparison, generated: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return delta and the absolute difference of probabilities of the compared tokens, [token] each."""
    stated = [trace.origin.get("logprob_temperature", 1.0) for trace in (comparison.a, comparison.b)]
    temperatures = {float(each) if isinstance(each, int | float) else 1.0 for each in stated}
    delta = comparison.choices["logprob_difference"].values.astype(float)
    known = np.isfinite(delta)
    if not known.any():
        return delta[known], delta[known]
    if len(temperatures) > 1:
        names = " and ".join(f"{temperature:g}" for temperature in sorted(temperatures))
        raise CompareError(f"the log-probabilities are of different temperatures, {names}; record both at one")
    pairs = comparison.alignment.pairs
    if generated:
        known &= np.array([token.generated for token in comparison.a.tokens])[pairs[:, 0]]
    logprobs = [
        trace.data["logprob"].values[pairs[known, side]].astype(float)
        for side, trace in enumerate((comparison.a, comparison.b))
    ]
    return delta[known], np.abs(np.exp(logprobs[0]) - np.exp(logprobs[1]))


def figure_rows(comparisons: Sequence[Comparison], tau: float = TAU) -> list[dict[str, Any]]:
    """Return a dict per figure: its name, value, 95 % interval over documents, and the number of what was compared.

    Unknown values are NaN.
    """
    rows = []
    for name, ratio in ratios(comparisons, tau).items():
        low, high = interval_of(name, ratio)
        rows.append({"figure": name, "value": ratio.value, "low": low, "high": high, "n": int(ratio.sizes_D.sum())})
    return rows


def interval_of(name: str, ratio: Ratio) -> tuple[float, float]:
    """Return the 95 % interval of a figure; that of a share lies between 0 and 1."""
    low, high = ratio.interval
    if name not in _SHARES or math.isnan(low):
        return low, high
    return max(0.0, low), min(1.0, high)


def layer_rows(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return a dict per MoE layer: `split_share` with its interval over documents, and `first`, counts of tokens.

    `first` counts the tokens whose first split, that of their lowest layer with one, is there, by the verdict on it.

    Raises:
        CompareError: the documents do not have the same layers.
    """
    layers = comparisons[0].choices["moe_layer"].values.tolist()
    if any(each.choices["moe_layer"].values.tolist() != layers for each in comparisons):
        raise CompareError("the documents do not have the same MoE layers")
    split_DL = np.array([each.is_split.sum(0) for each in comparisons])
    known_DL = np.array([(each.choices["verdict"].values != UNKNOWN).sum(0) for each in comparisons])
    first = sum((_first_by_layer(each) for each in comparisons), np.zeros((len(layers), len(VERDICTS)), int))
    rows = []
    for index, layer in enumerate(layers):
        ratio = Ratio(split_DL[:, index], known_DL[:, index])
        low, high = interval_of("split-share", ratio)
        counts = {VERDICTS[kind]: int(first[index, kind]) for kind in range(SAME + 1, UNKNOWN)}
        rows.append({"layer": layer, "split_share": ratio.value, "low": low, "high": high, "first": counts})
    return rows


def _first_by_layer(comparison: Comparison) -> np.ndarray:
    """Return the number of tokens by the layer of their first split and the verdict on it, [L, verdict]."""
    verdicts, first = comparison.choices["verdict"].values, comparison.first_split
    counts = np.zeros((verdicts.shape[1], len(VERDICTS)), int)
    pairs = np.flatnonzero(first >= 0)
    np.add.at(counts, (first[pairs], verdicts[pairs, first[pairs]]), 1)
    return counts


# --- a repeat of the rollout's engine ---------------------------------------------------------------------------------


def noise_rows(
    comparisons: Sequence[Comparison], repeats: Sequence[Comparison], tau: float = TAU
) -> list[dict[str, Any]]:
    """Return a dict per figure: its values for B and for a repeat of A, and their difference with its interval.

    Args:
        comparisons: A compared with B, a comparison per document.
        repeats: A compared with another run of the engine of A, on the same documents in the same order.
        tau: as for `ratios`.

    Returns:
        `figure`, `value`, `repeat`, `difference`, `low`, `high`, and `verdict`: "beyond noise" if the interval lies
        above 0 (for k1: does not hold 0), else "within noise"; "no interval" below `FEWEST` documents, and "not known".
    """
    rows, others = [], ratios(repeats, tau)
    for name, ratio in ratios(comparisons, tau).items():
        other = others[name]
        difference, low, high = paired_difference(*ratio, *other)
        unknown = "not known" if math.isnan(difference) else "no interval"
        beyond = low > 0 or (name == "k1" and high < 0)  # the others are never below 0
        verdict = unknown if math.isnan(low) else "beyond noise" if beyond else "within noise"
        values = {"value": ratio.value, "repeat": other.value, "difference": difference, "low": low, "high": high}
        rows.append({"figure": name, **values, "verdict": verdict})
    return rows


def to_json(comparisons: Sequence[Comparison], tau: float = TAU, repeats: Sequence[Comparison] = ()) -> dict[str, Any]:
    """Return the figures as plain JSON values; unknown values are null."""
    return {
        "documents": len(comparisons),
        "tau": tau,
        "sampled": sampled(comparisons),
        "figures": _plain(figure_rows(comparisons, tau)),
        "layers": _plain(layer_rows(comparisons)),
        "noise": _plain(noise_rows(comparisons, repeats, tau)) if repeats else None,
    }


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with null in place of NaN and infinities."""
    return [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in rows
    ]


def about_documents(comparisons: Sequence[Comparison]) -> list[str]:
    """Return sentences on what the figures are about, and on what they lack."""
    number = len(comparisons)
    unknown = sum(each.count(UNKNOWN) for each in comparisons)
    follows = sum(each.count(FOLLOWS) for each in comparisons)
    lines = [f"{number:,} document{'' if number == 1 else 's'}; A is the rollout, B the trainer."]
    if number < FEWEST:
        lines.append(f"No intervals: they are over documents, and need at least {FEWEST}.")
    if unknown:
        lines.append(f"Choices not compared, because one side did not record all their experts: {unknown:,}.")
    if shifted := [each.shift.tokens for each in comparisons if each.shift]:
        by = " and ".join(f"{tokens:+d}" for tokens in sorted(set(shifted)))
        lines.append(f"{len(shifted):,} recordings look shifted, by {by} tokens: check where their rows begin.")
    if follows:
        lines.append(
            f"Of the choices that differ, {follows:,} come after an earlier difference, which may be the cause."
        )
    if not sampled(comparisons):
        lines.append("A generated no token: probabilities are of all tokens, and k1 and k3 estimate no divergence.")
    return lines
