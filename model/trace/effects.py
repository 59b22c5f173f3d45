"""Effect of an intervention on a run: on next-token distributions, on the text's log-probability, on routing by layer.

Both runs process the same tokens, so the intervention causes every difference. A *control* is a set of random draws;
each draw makes the same change to other experts (`model/run/control.py`). An expert counts as selected only if its
weight is not 0: an intervention that sets a score threshold can leave a selected expert with weight 0.

    >>> original = np.log(np.array([[0.5, 0.25, 0.25]]))
    >>> kl_divergence(original, np.log(np.array([[0.25, 0.5, 0.25]]))).round(6).tolist()
    [0.173287]
    >>> kl_divergence(original, original).tolist()
    [0.0]
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from model.trace.routing import one_hot
from model.trace.trace import Trace

ROWS = 64  # distributions in double precision at a time: 66 MB with a vocabulary of 129,280


class EffectError(ValueError):
    """The two runs cannot be compared; the message says why."""


def kl_divergence(original_logits: np.ndarray, changed_logits: np.ndarray) -> np.ndarray:
    """Return KL(original || changed) of the next-token distributions, in nats, [token].

    Arguments are logits [token, vocab] over the whole vocabulary. The twenty most probable tokens in a trace are not
    enough, because they leave out the rest of the distribution. Values that rounding makes negative (about -1e-16)
    become 0.
    """
    parts = []
    for first in range(0, len(original_logits), ROWS):
        ours, theirs = (_log_softmax(logits[first : first + ROWS]) for logits in (original_logits, changed_logits))
        parts.append((np.exp(ours) * (ours - theirs)).sum(-1))
    return np.concatenate(parts).clip(0, None)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def taken(trace: Trace, num_experts: int) -> np.ndarray:
    """Return a mask of selected experts with a weight other than 0, bool [token, moe_layer, expert]."""
    ids, weights = trace.data["expert_id"], trace.data["gate_weight"]
    return one_hot(ids.where(weights.values != 0, -1), num_experts)


def agreement(original: np.ndarray, changed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of tokens with equal sets of experts, and the mean Jaccard index of the sets, each [moe_layer].

    Sets are masks [token, moe_layer, expert]. Two empty sets are equal.

    >>> a = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 0]]], dtype=bool)
    >>> b = np.array([[[1, 1, 0, 0]], [[1, 0, 1, 0]]], dtype=bool)
    >>> [values.round(3).tolist() for values in agreement(a, b)]
    [[0.5], [0.667]]
    """
    both, either = (original & changed).sum(-1), (original | changed).sum(-1)
    return (both == either).mean(0), np.where(either, both / np.maximum(either, 1), 1.0).mean(0)


def effect(original: Trace, changed: Trace) -> xr.Dataset:
    """Return the effect of an intervention, from two runs over the same tokens that recorded router and logits.

    Returns:
        `kl` [token]: KL divergence of the distribution after each token, in nats.
        `logprob_change` [token]: change of each token's log-probability given the tokens before it, in nats; NaN for
        the first token.
        `equal_sets` [moe_layer]: share of tokens with equal sets of experts.
        `jaccard` [moe_layer]: mean Jaccard index of both sets.

    Raises:
        EffectError: the runs have different tokens, or lack a variable or the number of experts.
    """
    if original.data["token_id"].values.tolist() != changed.data["token_id"].values.tolist():
        raise EffectError("the two runs were not fed the same tokens")
    for name in ("logits", "expert_id", "gate_weight"):
        if not (original.has(name) and changed.has(name)):
            raise EffectError(f"both runs must hold {name}")
    num_experts = original.shape.num_experts
    if num_experts is None:
        raise EffectError("the original run must state its model's number of experts")
    equal, jaccard = agreement(taken(original, num_experts), taken(changed, num_experts))
    return xr.Dataset(
        {
            "kl": ("token", kl_divergence(original.data["logits"].values, changed.data["logits"].values)),
            "logprob_change": ("token", changed.data["logprob"].values - original.data["logprob"].values),
            "equal_sets": ("moe_layer", equal),
            "jaccard": ("moe_layer", jaccard),
        },
        coords={"moe_layer": original.data["moe_layer"].values},
    )


def band(draws: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest value along the axis `draw`, the draws of a control."""
    return draws.min("draw").values, draws.max("draw").values


class Standing(NamedTuple):
    """The rank of a value among the draws of a control.

    Attributes:
        below, above: number of draws below and above the value.
        draws: number of draws.
        level: probability that one more draw lies above all draws; it lies below all draws with the same probability.
    """

    below: int
    above: int
    draws: int
    level: float


def standing(value: float, draws: np.ndarray) -> Standing:
    """Return the rank of a value among the values `draws` [draw] of a control.

    A further draw of the control takes each of its N + 1 possible ranks with the same probability, whatever the
    distribution. It lies above all N draws with probability 1 / (N + 1).

    >>> standing(3.0, np.array([1.0, 2.0, 4.0]))
    Standing(below=2, above=1, draws=3, level=0.25)
    """
    return Standing(int((draws < value).sum()), int((draws > value).sum()), len(draws), 1 / (len(draws) + 1))


def parting(original: Trace, changed: Trace) -> int | None:
    """Return the first position at which two runs' tokens differ; None if all are equal."""
    ours, theirs = (trace.data["token_id"].values for trace in (original, changed))
    common = min(len(ours), len(theirs))
    differing = np.flatnonzero(ours[:common] != theirs[:common])
    if len(differing):
        return int(differing[0])
    return common if len(ours) != len(theirs) else None


def means(effect: xr.Dataset) -> xr.Dataset:
    """Return the mean of each variable over tokens or layers, ignoring NaN; an axis `draw` is kept.

    >>> means(xr.Dataset({"kl": ("token", [1.0, 3.0]), "jaccard": ("moe_layer", [0.5])}))["kl"].item()
    2.0
    """
    return effect.mean([dim for dim in effect.dims if dim != "draw"])


def text_parts(trace: Trace, num_prompt: int, first_own: int | None) -> tuple[str, str, str]:
    """Return a run's text in three parts: the prompt, the generated text shared with another run, and the rest.

    A character of several tokens is never divided; bytes that are no valid UTF-8 become replacement characters.

    Args:
        trace: trace of the run.
        num_prompt: number of prompt tokens.
        first_own: index of the first token that differs from the other run, from `parting`; None if none differs.
    """
    ends, text = [token.end for token in trace.tokens], trace.text
    split = trace.num_tokens if first_own is None else min(first_own, trace.num_tokens)
    prompt, common = ends[num_prompt - 1], ends[split - 1]
    while prompt < common < len(text) and text[common] & 0xC0 == 0x80:
        common -= 1
    prompt_text, common_text, own_text = (
        piece.decode("utf-8", errors="replace") for piece in (text[:prompt], text[prompt:common], text[common:])
    )
    return prompt_text, common_text, own_text
