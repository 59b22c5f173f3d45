"""Find a shift by some tokens under which the routing of one trace equals that of the other.

A shift means that one recording was assigned to the wrong tokens. A shift is reported only if the routing agrees with
the shift and does not agree without it; the constants below are the thresholds.
"""

import dataclasses

import numpy as np

MOST_TOKENS = 64  # largest shift in either direction, in tokens
LEAST_TOKENS = 8  # smallest number of tokens that both traces know, at the shift
LEAST_CHOICES = 32  # smallest number of tokens x layers; fewer could agree by chance
LEAST_AGREEMENT = 0.9
LEAST_GAIN = 0.3
_SAMPLED_TOKENS, _SAMPLED_LAYERS = 512, 8


@dataclasses.dataclass(frozen=True)
class Shift:
    """A shift between two recordings that explains the routing.

    Attributes:
        tokens: size of the shift: token t of A has the experts of token t + `tokens` of B.
        agreement: share of selected experts that both traces have in common at this shift.
        as_placed: share of selected experts that both have in common without a shift.
        compared: number of tokens that were compared at the shift.
    """

    tokens: int
    agreement: float
    as_placed: float
    compared: int


def find_shift(ids_a: np.ndarray, ids_b: np.ndarray, pairs: np.ndarray) -> Shift | None:
    """Return the shift that explains how B's routing differs from A's; None if there is none.

    Args:
        ids_a: selected experts of all tokens of A, [token, moe_layer, rank]; -1 if unknown.
        ids_b: selected experts of all tokens of B in the same layers.
        pairs: token indices in A and B of the aligned tokens, [pair, 2].
    """
    layers = np.unique(np.linspace(0, ids_a.shape[1] - 1, _SAMPLED_LAYERS).astype(int))
    sample = np.unique(np.linspace(0, len(pairs) - 1, _SAMPLED_TOKENS).astype(int))
    ids_a, ids_b, pairs = ids_a[:, layers], ids_b[:, layers], pairs[sample]
    as_placed, _ = _agreement(ids_a, ids_b, pairs, 0)
    if 1 - as_placed < LEAST_GAIN:
        return None
    best = None
    for tokens in sorted(range(-MOST_TOKENS, MOST_TOKENS + 1), key=abs)[1:]:
        agreement, compared = _agreement(ids_a, ids_b, pairs, tokens)
        enough = compared >= LEAST_TOKENS and compared * len(layers) >= LEAST_CHOICES
        if enough and agreement > (best.agreement if best else 0):
            best = Shift(tokens, agreement, as_placed, compared)
    if best and best.agreement >= LEAST_AGREEMENT and best.agreement - best.as_placed >= LEAST_GAIN:
        return best
    return None


def _agreement(ids_a: np.ndarray, ids_b: np.ndarray, pairs: np.ndarray, shift: int) -> tuple[float, int]:
    """Return the share of common experts (0 without tokens), and the number of tokens that both traces know."""
    other = pairs[:, 1] + shift
    inside = (other >= 0) & (other < len(ids_b))
    one, two = ids_a[pairs[inside, 0]], ids_b[other[inside]]
    known = (one >= 0).all((1, 2)) & (two >= 0).all((1, 2))
    if not known.any():
        return 0.0, 0
    one, two = one[known], two[known]
    shared = (one[..., :, None] == two[..., None, :]).any(-1).sum()
    slots = one.shape[0] * one.shape[1] * max(one.shape[2], two.shape[2])
    return float(shared / slots), int(known.sum())
