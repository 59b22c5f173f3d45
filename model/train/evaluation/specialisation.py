"""What an expert has to do with the kind of text: mutual information with control and interval, and each kind's expert.

All is computed from how many tokens of each piece of text each expert took. Pieces, not tokens, are what is drawn anew
and what is shuffled: the tokens of one piece are not independent of each other.

Shape suffixes: P pieces, L mixture layers, E experts, K kinds of text, N draws.

Source: the bootstrap's basic interval, Davison and Hinkley, Bootstrap Methods and their Application (1997), 5.2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 200


class Information(NamedTuple):
    """Mutual information of expert and kind of text in one layer, in nats."""

    nats: float
    low: float  # of the 95 % interval
    high: float
    shuffled: float  # mean with the pieces' kinds shuffled: what chance alone gives


class Strongest(NamedTuple):
    """The (layer, expert) that says most about a kind of text."""

    kind: str
    layer: int
    expert: int
    share: float  # of the kind's tokens that went to it
    elsewhere: float  # of all other tokens
    tokens: int  # of the kind


def mutual_information(counts_KLE: np.ndarray) -> np.ndarray:
    """Of kind and expert in nats, [..., L], from tokens of each kind at each expert, [..., K, L, E]."""
    joint = counts_KLE / counts_KLE.sum((-3, -1), keepdims=True)
    product = joint.sum(-3, keepdims=True) * joint.sum(-1, keepdims=True)
    ratio = np.divide(joint, product, out=np.ones_like(joint), where=joint > 0)
    return (joint * np.log(ratio)).sum((-3, -1))


def counts_by_kind(counts_PLE: np.ndarray, kind_P: np.ndarray) -> np.ndarray:
    """Tokens that the experts took of each kind, [K, L, E]; `kind_P` holds numbers from 0 on."""
    counts_KLE = np.zeros((int(kind_P.max()) + 1, *counts_PLE.shape[1:]), np.int64)
    np.add.at(counts_KLE, kind_P, counts_PLE)
    return counts_KLE


def information(counts_PLE: np.ndarray, kind_P: np.ndarray, draws: int = DRAWS, seed: int = 0) -> list[Information]:
    """Mutual information of each layer.

    Args:
        counts_PLE: tokens of each piece that each expert took.
        kind_P: number of each piece's kind.
        draws: both of pieces with replacement, for the interval, and of shuffled kinds, for the control.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    num_pieces = len(kind_P)
    found_L = mutual_information(counts_by_kind(counts_PLE, kind_P))
    drawn_NL, shuffled_NL = np.empty((2, draws, len(found_L)))
    for draw in range(draws):
        picks_P = generator.integers(num_pieces, size=num_pieces)
        drawn_NL[draw] = mutual_information(counts_by_kind(counts_PLE[picks_P], kind_P[picks_P]))
        shuffled_NL[draw] = mutual_information(counts_by_kind(counts_PLE, generator.permutation(kind_P)))
    upper_L, lower_L = np.quantile(drawn_NL, (0.025, 0.975), axis=0)
    columns = (found_L, np.maximum(2 * found_L - lower_L, 0.0), 2 * found_L - upper_L, shuffled_NL.mean(0))
    return [Information(*map(float, row)) for row in zip(*columns, strict=True)]


def strongest(
    counts_PLE: np.ndarray, tokens_P: np.ndarray, kind_P: np.ndarray, kinds: Sequence[str], moe_layers: Sequence[int]
) -> list[Strongest]:
    """Of each kind, the expert with the largest share(kind) x ln(share(kind) / share(all)): used much, and used more.

    Args:
        counts_PLE: tokens of each piece that each expert took.
        tokens_P: tokens of each piece.
        kind_P: number of each piece's kind.
        kinds: their names.
        moe_layers: numbers of the layers.
    """
    counts_KLE, tokens_K = counts_by_kind(counts_PLE, kind_P), np.bincount(kind_P, tokens_P)
    all_LE, found = counts_KLE.sum(0), []
    for kind, name in enumerate(kinds):
        share_LE = counts_KLE[kind] / tokens_K[kind]
        over_all_LE = np.divide(
            share_LE * tokens_K.sum(), all_LE, out=np.ones(all_LE.shape), where=counts_KLE[kind] > 0
        )
        layer, expert = np.unravel_index((share_LE * np.log(over_all_LE)).argmax(), share_LE.shape)
        others = tokens_K.sum() - tokens_K[kind]
        elsewhere = (all_LE - counts_KLE[kind])[layer, expert] / others if others else 0.0
        share = float(share_LE[layer, expert])
        found.append(Strongest(name, moe_layers[layer], int(expert), share, float(elsewhere), int(tokens_K[kind])))
    return found
