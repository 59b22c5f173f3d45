"""Specialisation of experts: mutual information of expert and kind of text, and the strongest expert of each kind.

The input is the number of tokens of each document at each expert. Bootstrap and permutations take whole documents,
because the tokens of one document are not independent.

Shape suffixes: D documents, L MoE layers, E experts, K kinds of text, N draws.

Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 5.2 (bootstrap standard error).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from model.trace.documents import FEWEST, ratio_interval, t_quantile
from model.trace.information import counts_by_label, mutual_information

DRAWS = 200


class Information(NamedTuple):
    """Mutual information of expert and kind of text in one layer, in nats.

    Attributes:
        nats: plug-in value, which is biased upwards: it is above 0 even if experts are independent of the kinds.
        shuffled: mean with the kinds shuffled among the documents, the value by chance alone.
        corrected: `nats - shuffled`; negative values are kept.
        low, high: 95 % interval of the corrected value, by the spread over bootstrap samples of documents; NaN if there
            are too few documents.
        p: probability of at least `nats` by chance, (1 + shuffles that reach `nats`) / (1 + shuffles).
        documents: number of documents.
    """

    nats: float
    shuffled: float
    corrected: float
    low: float
    high: float
    p: float
    documents: int


class Strongest(NamedTuple):
    """The (layer, expert) that is most specific to a kind of text."""

    kind: str
    layer: int
    expert: int
    share: float  # share of the kind's tokens that select the expert
    low: float  # lower end of the share's 95 % interval over documents; NaN if the kind has too few
    high: float  # upper end
    elsewhere: float  # share of all other tokens that select the expert
    tokens: int  # number of tokens of the kind
    documents: int  # number of documents of the kind


def information(counts_DLE: np.ndarray, kind_D: np.ndarray, draws: int = DRAWS, seed: int = 0) -> list[Information]:
    """Return the mutual information of each layer: plug-in value, value corrected for chance, and interval.

    Args:
        counts_DLE: tokens of each document at each expert.
        kind_D: number of each document's kind.
        draws: bootstrap samples for the interval, and as many permutations for the value by chance.
        seed: seed of the random generator.
    """
    generator = np.random.default_rng(seed)
    num_documents = len(kind_D)
    information_L = mutual_information(counts_by_label(counts_DLE, kind_D))
    drawn_NL, shuffled_NL = np.empty((2, draws, len(information_L)))
    for draw in range(draws):
        picks_D = generator.integers(num_documents, size=num_documents)
        drawn_NL[draw] = mutual_information(counts_by_label(counts_DLE[picks_D], kind_D[picks_D]))
        shuffled_NL[draw] = mutual_information(counts_by_label(counts_DLE, generator.permutation(kind_D)))
    chance_L = shuffled_NL.mean(0)
    corrected_L = information_L - chance_L
    # The samples are biased as the value is, so only their spread is used.
    reach_L = t_quantile(0.975, num_documents - 1) * drawn_NL.std(0, ddof=1)
    if num_documents < FEWEST:
        reach_L = np.full(len(information_L), np.nan)
    p_L = (1 + (shuffled_NL >= information_L - 1e-12).sum(0)) / (1 + draws)
    columns = (information_L, chance_L, corrected_L, corrected_L - reach_L, corrected_L + reach_L, p_L)
    return [Information(*map(float, row), documents=num_documents) for row in zip(*columns, strict=True)]


def strongest(
    counts_DLE: np.ndarray, tokens_D: np.ndarray, kind_D: np.ndarray, kinds: Sequence[str], moe_layers: Sequence[int]
) -> list[Strongest]:
    """Return for each kind of text the expert with the largest share(kind) x ln(share(kind) / share(all)).

    share(kind) is the expert's share of the tokens of a kind, share(all) its share of all tokens.

    Args:
        counts_DLE: tokens of each document at each expert.
        tokens_D: tokens of each document.
        kind_D: number of each document's kind.
        kinds: names of the kinds.
        moe_layers: layer numbers.
    """
    counts_KLE, tokens_K = counts_by_label(counts_DLE, kind_D), np.bincount(kind_D, tokens_D)
    all_LE, rows = counts_KLE.sum(0), []
    for kind, name in enumerate(kinds):
        share_LE = counts_KLE[kind] / tokens_K[kind]
        over_all_LE = np.divide(
            share_LE * tokens_K.sum(), all_LE, out=np.ones(all_LE.shape), where=counts_KLE[kind] > 0
        )
        layer, expert = np.unravel_index((share_LE * np.log(over_all_LE)).argmax(), share_LE.shape)
        others = tokens_K.sum() - tokens_K[kind]
        elsewhere = (all_LE - counts_KLE[kind])[layer, expert] / others if others else 0.0
        own_D = kind_D == kind
        low, high = ratio_interval(counts_DLE[own_D, layer, expert], tokens_D[own_D])
        rows.append(
            Strongest(
                name,
                moe_layers[layer],
                int(expert),
                float(share_LE[layer, expert]),
                float(low),
                float(high),
                float(elsewhere),
                int(tokens_K[kind]),
                int(own_D.sum()),
            )  # fmt: skip
        )
    return rows
