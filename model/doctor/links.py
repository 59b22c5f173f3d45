"""Holds the recorded norms of two runs of the same tokens as the links of one chain, in the order of computation.

The links: the embedding, then the residual stream of each layer after attention and after its feed-forward block. A
trace of an older version holds only the residual stream after each feed-forward block.

Thresholds: a chain is *rounded* if every number was rounded to 16 bits, or the weights to FP8; otherwise it is *exact*.
Norms of an exact chain count as equal if they differ by less than 1e-3, as in fp32 on two machines. Norms of a rounded
chain count as equal up to 3 %, and a token is judged only up to the first layer in which its experts differ from those
in the reference.

Shape suffixes: T tokens, L layers.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from model.trace.routing import one_hot
from model.trace.trace import Trace

EMBEDDING, ATTENTION, OUTPUT = "embedding", "attention", "output"
_ALL_TOKENS = 0.9  # smallest share of tokens that rounding changes at the first link
_LARGEST_ROUNDING = 0.02  # largest relative change of a norm by rounding at the first link
_SMALLEST_CHANGE = 3e-6  # relative change of a norm above which it is more than rounding in fp32
_JUMP = 10.0  # a change so many times as large as at all links before is the first one
_FEWEST = 0.02  # share of the judged tokens that must differ where numbers were rounded


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One link: the relative differences of a norm, one per token; infinite if one of the norms is NaN."""

    kind: str  # EMBEDDING, ATTENTION or OUTPUT
    layer: int  # model layer number; that of the first layer for the embedding
    gaps_T: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest differences between two runs that count as equal."""

    norm: float = 1e-3  # relative
    affinity: float = 1e-4
    nats: float = 0.02
    factor: float = 1e-3  # of the scaling factor, relative
    is_rounded: bool = False


EXACT = Tolerance()
ROUNDED = Tolerance(0.03, 0.02, 0.5, 0.02, is_rounded=True)


def chain_of(reference: Trace, ours: Trace) -> list[Link]:
    """Return the links that both traces recorded, in the order of computation."""
    layers = ours.data["layer"].values.tolist()
    both = [name for name in ("embedding_norm", "attention_residual_norm") if reference.has(name) and ours.has(name)]
    links = [Link(EMBEDDING, layers[0], _gaps(reference, ours, both[0]))] if len(both) == 2 else []
    after = {ATTENTION: "attention_residual_norm", OUTPUT: "residual_norm"}
    gaps = {kind: _gaps(reference, ours, name) for kind, name in after.items() if name in (*both, "residual_norm")}
    for place, layer in enumerate(layers):
        links += [Link(kind, layer, gaps_TL[:, place]) for kind, gaps_TL in gaps.items()]
    return links


def _gaps(reference: Trace, ours: Trace, name: str) -> np.ndarray:
    return relative_gaps(reference.data[name].values, ours.data[name].values)


def relative_gaps(was: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Return the relative differences of two arrays of norms; infinite where one of them is NaN."""
    was = was.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(now - was) / np.maximum(np.abs(was), 1e-9)
    return np.nan_to_num(apart, nan=np.inf, posinf=np.inf)


def tolerance_of(links: Sequence[Link], in_16_bits: bool, in_fp8: bool) -> Tolerance:
    """Return the tolerance for a chain: wide for a rounded chain, narrow for an exact chain.

    Rounding is recognised because it changes nearly every token a little from the first links on.

    Args:
        links: see `chain_of`.
        in_16_bits: both runs computed in 16 bits.
        in_fp8: the audited weights are stored in FP8, but for the embedding.
    """
    if in_16_bits:
        return ROUNDED
    first = next((place for place, link in enumerate(links) if (link.gaps_T > _SMALLEST_CHANGE).any()), None)
    if first is None or links[first].layer != links[0].layer or (first > 0 and not in_fp8):
        return EXACT
    gaps_T = links[first].gaps_T
    is_small = float(gaps_T.max()) < _LARGEST_ROUNDING and float((gaps_T > _SMALLEST_CHANGE).mean()) >= _ALL_TOKENS
    return ROUNDED if is_small else EXACT


def same_experts(reference: Trace, ours: Trace, link: Link) -> np.ndarray:
    """Return a mask of the tokens that selected the reference's experts in all MoE layers up to a link, [T] bool."""
    sets = [one_hot(trace.data["expert_id"], ours.data.sizes["expert"]) for trace in (reference, ours)]
    layers = ours.data["moe_layer"].values
    before = layers <= link.layer if link.kind == OUTPUT else layers < link.layer
    return (sets[0] == sets[1]).all(-1)[:, before].all(-1)


def first_difference(reference: Trace, ours: Trace, links: Sequence[Link], tolerance: Tolerance) -> int | None:
    """Return the index in `links` of the first link that differs; None if none does.

    In an exact chain (see the module), it is the first link whose difference is far above those of all earlier links. A
    small fault exceeds the tolerance only some layers later, so the tolerance alone would find a link that is too late.
    """
    if tolerance.is_rounded:
        for place, link in enumerate(links):
            judged_T = same_experts(reference, ours, link)
            if judged_T.any() and (link.gaps_T[judged_T] > tolerance.norm).mean() > _FEWEST:
                return place
        return None
    largest = [float(link.gaps_T.max(initial=0.0)) for link in links]
    beyond = next((place for place, gap in enumerate(largest) if gap > tolerance.norm), None)
    if beyond is None:
        return None
    before = np.maximum.accumulate([_SMALLEST_CHANGE, *largest[:beyond]])
    return next(place for place in range(beyond + 1) if place == beyond or largest[place] > _JUMP * before[place])


def changed_tokens(links: Sequence[Link], place: int, tolerance: Tolerance) -> np.ndarray:
    """Return a mask of the tokens that differ at a link by more than rounding, [T] bool.

    In an exact chain (see the module), the differences at the links before this one show how large rounding is.
    """
    before = max((float(link.gaps_T.max(initial=0.0)) for link in links[:place]), default=0.0)
    limit = tolerance.norm if tolerance.is_rounded else min(tolerance.norm / 10, max(_SMALLEST_CHANGE, _JUMP * before))
    return links[place].gaps_T > limit
