"""Judges how well a model predicts texts: a model that predicts no better than a guess is damaged, or untrained.

A guess among V ids has a surprisal of ln V nats. The embedded models have 0.59 to 0.77 of that surprisal on the
doctor's own sample; the threshold is 0.9 times the surprisal of a guess. A model whose embedding still is its random
initialisation gets only a note: it is untrained, not damaged. If rows hold N random values each, the standard deviation
of their norms is 1 / sqrt(2 N) times the mean norm; the norms of the embedded models spread 4.2 times as far.

Shape suffixes: V vocabulary, D model width.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from model.doctor.findings import NOTE, WARNING, Finding
from model.trace.trace import Trace

NAME = "prediction"
GUESS, FEWEST_TOKENS = 0.9, 50
_DRAWN = 1.5  # largest `spread_of_norms` of an embedding that counts as untrained


def mean_surprisal(traces: Sequence[Trace]) -> tuple[float, int]:
    """Return the mean surprisal of the text's tokens in nats, NaN without any, and the number of tokens in the mean."""
    parts = [trace.data["logprob"].values[~trace.special_mask.values] for trace in traces]
    logprobs = np.concatenate([part[np.isfinite(part)] for part in parts]).astype(np.float64)
    return (-float(logprobs.mean()) if len(logprobs) else math.nan), len(logprobs)


def spread_of_norms(embedding_VD: Tensor) -> float:
    """Return the relative standard deviation of the rows' norms, divided by that of rows of random values."""
    norms_V = embedding_VD.detach().float().norm(dim=1)
    return float(norms_V.std() / norms_V.mean()) * math.sqrt(2 * embedding_VD.shape[1])


def check_prediction(traces: Sequence[Trace], embedding_VD: Tensor) -> Iterator[Finding]:
    """Yield the finding on a model that predicts its texts no better than a guess.

    Args:
        traces: runs of texts.
        embedding_VD: the embedding; a tensor without values (meta device) if the model runs from disk.
    """
    surprisal, number = mean_surprisal(traces)
    guess = math.log(len(embedding_VD))
    if number < FEWEST_TOKENS or not surprisal >= GUESS * guess:
        return
    spread = math.nan if embedding_VD.device == torch.device("meta") else spread_of_norms(embedding_VD)
    ids = f"{len(embedding_VD):,} ids"
    what = f"the mean surprisal of the texts is {surprisal:.3g} nats; a guess among {ids} has {guess:.3g}"
    evidence = {"mean surprisal": surprisal, "of a guess": guess, "tokens": number, "spread of embedding norms": spread}
    if spread < _DRAWN:
        yield Finding(NOTE, NAME, what, "Expected of an untrained model: its embedding is still random.", evidence)
        return
    meaning = (
        "The model predicts no better than chance: its head, final norm or embedding is damaged, the tokenizer is "
        "another model's, or the texts are of a kind that it never saw."
    )
    yield Finding(WARNING, NAME, what, meaning, evidence)
