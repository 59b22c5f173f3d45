"""What a change of the routing did to a run: next-token distributions, the text's own tokens, routing by layer.

Labelled arrays in and out. Two runs are set side by side that were fed the same tokens, so that every difference is the
change's doing and not that of another text. An expert counts as taken where it received weight: one that kept its place
without any (a score threshold) did nothing.

    >>> original = np.log(np.array([[0.5, 0.25, 0.25]]))
    >>> kl_divergence(original, np.log(np.array([[0.25, 0.5, 0.25]]))).round(6).tolist()
    [0.173287]
    >>> kl_divergence(original, original).tolist()
    [0.0]
"""

import numpy as np
import xarray as xr

from model.trace.routing import one_hot
from model.trace.trace import Trace

ROWS = 64  # of a distribution held at once in double precision: those of a vocabulary of 129,280 are 66 MB


class EffectError(ValueError):
    """Two runs that cannot be set side by side; the message says why."""


def kl_divergence(original_logits: np.ndarray, changed_logits: np.ndarray) -> np.ndarray:
    """KL(original || changed) of the next-token distributions, in nats, [token].

    Over the whole vocabulary, from the logits [token, vocab]: the twenty candidates that a trace always holds leave out
    a tail of which nothing is known. Never below 0; what rounding makes negative (about -1e-16) is 0.
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
    """Whether an expert received weight of a token, bool [token, moe_layer, expert]."""
    ids, weights = trace.data["expert_id"], trace.data["gate_weight"]
    return one_hot(ids.where(weights.values != 0, -1), num_experts)


def agreement(original: np.ndarray, changed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of tokens with the same set of experts, and mean Jaccard index of the two sets, [moe_layer].

    Two empty sets are the same. Both are given as masks [token, moe_layer, expert].

    >>> a = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 0]]], dtype=bool)
    >>> b = np.array([[[1, 1, 0, 0]], [[1, 0, 1, 0]]], dtype=bool)
    >>> [values.round(3).tolist() for values in agreement(a, b)]
    [[0.5], [0.667]]
    """
    both, either = (original & changed).sum(-1), (original | changed).sum(-1)
    return (both == either).mean(0), np.where(either, both / np.maximum(either, 1), 1.0).mean(0)


def effect(original: Trace, changed: Trace) -> xr.Dataset:
    """What the change did, from two runs fed the same tokens with router and logits captured.

    Returns:
        `kl` [token], nats: of the distribution after each token.
        `logprob_change` [token], nats: of each token given those before it; NaN for the first.
        `equal_sets`, `jaccard` [moe_layer], shares of 1.

    Raises:
        EffectError: other tokens were fed, or something was not recorded.
    """
    if original.data["token_id"].values.tolist() != changed.data["token_id"].values.tolist():
        raise EffectError("the two runs were not fed the same tokens")
    for name in ("logits", "expert_id", "gate_weight"):
        if not (original.has(name) and changed.has(name)):
            raise EffectError(f"both runs must hold {name}")
    num_experts = original.data.sizes["expert"]
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
    """Return the lowest and the highest of the control's draws, [draw, ...], over their axis `draw`."""
    return draws.min("draw").values, draws.max("draw").values


def parting(original: Trace, changed: Trace) -> int | None:
    """The first token at which two texts differ; None where one is the beginning of the other and both are as long."""
    ours, theirs = (trace.data["token_id"].values for trace in (original, changed))
    common = min(len(ours), len(theirs))
    differing = np.flatnonzero(ours[:common] != theirs[:common])
    if len(differing):
        return int(differing[0])
    return common if len(ours) != len(theirs) else None


def means(effect: xr.Dataset) -> xr.Dataset:
    """Return the mean of each variable over tokens or layers, without NaN; an axis `draw` stays.

    >>> means(xr.Dataset({"kl": ("token", [1.0, 3.0]), "jaccard": ("moe_layer", [0.5])}))["kl"].item()
    2.0
    """
    return effect.mean([dim for dim in effect.dims if dim != "draw"])


def text_parts(trace: Trace, num_prompt: int, first_own: int | None) -> tuple[str, str, str]:
    """Return a text in three parts: the prompt, what two runs wrote alike, and what this one wrote alone.

    A character that spans several tokens is never divided; bytes that are no character become replacement characters.

    Args:
        trace: the run whose text it is.
        num_prompt: tokens of the prompt.
        first_own: first token that differs, as `parting` gives it; None where none does.
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
