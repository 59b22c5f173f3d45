"""Specialisation of experts: mutual information of expert and kind of text, and the strongest expert of each kind.

The input is the number of tokens of each piece at each expert. The bootstrap and the shuffled control resample pieces,
not tokens, because the tokens of one piece are not independent.

Shape suffixes: P pieces, L MoE layers, E experts, K kinds of text, N draws.

Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 5.2 (basic bootstrap interval).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 200


class Information(NamedTuple):
    """Mutual information of expert and kind of text in one layer, in nats."""

    nats: float
    low: float  # lower end of the 95 % interval
    high: float  # upper end of the 95 % interval
    shuffled: float  # control: mean with the kinds of the pieces shuffled


class Strongest(NamedTuple):
    """The (layer, expert) that is most specific to a kind of text."""

    kind: str
    layer: int
    expert: int
    share: float  # share of the kind's tokens that select the expert
    elsewhere: float  # share of all other tokens that select the expert
    tokens: int  # number of tokens of the kind


def mutual_information(counts_KLE: np.ndarray) -> np.ndarray:
    """Return the mutual information in nats, [..., L], from tokens of each kind at each expert, [..., K, L, E]."""
    joint = counts_KLE / counts_KLE.sum((-3, -1), keepdims=True)
    product = joint.sum(-3, keepdims=True) * joint.sum(-1, keepdims=True)
    ratio = np.divide(joint, product, out=np.ones_like(joint), where=joint > 0)
    return (joint * np.log(ratio)).sum((-3, -1))


def counts_by_kind(counts_PLE: np.ndarray, kind_P: np.ndarray) -> np.ndarray:
    """Return the tokens of each kind at each expert, [K, L, E]; `kind_P` holds numbers from 0."""
    counts_KLE = np.zeros((int(kind_P.max()) + 1, *counts_PLE.shape[1:]), np.int64)
    np.add.at(counts_KLE, kind_P, counts_PLE)
    return counts_KLE


def information(counts_PLE: np.ndarray, kind_P: np.ndarray, draws: int = DRAWS, seed: int = 0) -> list[Information]:
    """Return the mutual information of each layer, with interval and control.

    Args:
        counts_PLE: tokens of each piece at each expert.
        kind_P: number of each piece's kind.
        draws: bootstrap samples for the interval, and as many shuffles for the control.
        seed: seed of the random generator.
    """
    generator = np.random.default_rng(seed)
    num_pieces = len(kind_P)
    information_L = mutual_information(counts_by_kind(counts_PLE, kind_P))
    drawn_NL, shuffled_NL = np.empty((2, draws, len(information_L)))
    for draw in range(draws):
        picks_P = generator.integers(num_pieces, size=num_pieces)
        drawn_NL[draw] = mutual_information(counts_by_kind(counts_PLE[picks_P], kind_P[picks_P]))
        shuffled_NL[draw] = mutual_information(counts_by_kind(counts_PLE, generator.permutation(kind_P)))
    upper_L, lower_L = np.quantile(drawn_NL, (0.025, 0.975), axis=0)
    columns = (
        information_L,
        np.maximum(2 * information_L - lower_L, 0.0),
        2 * information_L - upper_L,
        shuffled_NL.mean(0),
    )
    return [Information(*map(float, row)) for row in zip(*columns, strict=True)]


def strongest(
    counts_PLE: np.ndarray, tokens_P: np.ndarray, kind_P: np.ndarray, kinds: Sequence[str], moe_layers: Sequence[int]
) -> list[Strongest]:
    """Return for each kind of text the expert with the largest share(kind) x ln(share(kind) / share(all)).

    share(kind) is the expert's share of the tokens of a kind, share(all) its share of all tokens.

    Args:
        counts_PLE: tokens of each piece at each expert.
        tokens_P: tokens of each piece.
        kind_P: number of each piece's kind.
        kinds: names of the kinds.
        moe_layers: layer numbers.
    """
    counts_KLE, tokens_K = counts_by_kind(counts_PLE, kind_P), np.bincount(kind_P, tokens_P)
    all_LE, rows = counts_KLE.sum(0), []
    for kind, name in enumerate(kinds):
        share_LE = counts_KLE[kind] / tokens_K[kind]
        over_all_LE = np.divide(
            share_LE * tokens_K.sum(), all_LE, out=np.ones(all_LE.shape), where=counts_KLE[kind] > 0
        )
        layer, expert = np.unravel_index((share_LE * np.log(over_all_LE)).argmax(), share_LE.shape)
        others = tokens_K.sum() - tokens_K[kind]
        elsewhere = (all_LE - counts_KLE[kind])[layer, expert] / others if others else 0.0
        share = float(share_LE[layer, expert])
        rows.append(Strongest(name, moe_layers[layer], int(expert), share, float(elsewhere), int(tokens_K[kind])))
    return rows
