"""Answers to many prompts at once.

All rows stand at the same place at all times, so they share a cache and nothing has to be filled up or masked: they are
fed together as far as the shortest prompt goes, and from there a token at a time, where a row takes its own prompt's
next token while there is one, and a chosen one after that. What a row gets does not depend on its neighbours.

Shape suffixes: B rows, T places, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.network.cache import LatentCache
from model.network.transformer import Transformer

ROWS = 64  # that are answered together


class Answer(NamedTuple):
    """What a model said to one prompt."""

    ids: list[int]  # the mark of the end is the last one where it was reached
    logprobs: list[float]  # of each, at temperature 1, nats


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    most: Sequence[int],
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[Answer]:
    """Answer every prompt, up to the mark of the end or as far as there is room.

    Args:
        model: its mode, training or not, is the same afterwards.
        prompts: token ids.
        most: tokens that each answer may have.
        temperature: 0 takes the likeliest token; above it, tokens are drawn from all of the vocabulary.
        generator: of the draws.
    """
    was_training = model.training
    model.eval()
    found: list[Answer | None] = [None] * len(prompts)
    by_length = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # few places where only some rows answer
    for first in range(0, len(by_length), ROWS):
        rows = by_length[first : first + ROWS]
        said = _together(model, [prompts[row] for row in rows], [most[row] for row in rows], temperature, generator)
        for row, answer in zip(rows, said, strict=True):
            found[row] = answer
    model.train(was_training)
    return [answer for answer in found if answer is not None]


@torch.inference_mode()
def _together(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    most: Sequence[int],
    temperature: float,
    generator: torch.Generator | None,
) -> list[Answer]:
    weight, num_rows = model.embedding.weight, len(prompts)
    ends = [min(len(prompt) + room, model.config.max_positions) for prompt, room in zip(prompts, most, strict=True)]
    begin_B = torch.tensor([len(prompt) for prompt in prompts], device=weight.device)
    end_B = torch.tensor(ends, device=weight.device)
    ids_BT = torch.zeros(num_rows, max(ends), dtype=torch.int64, device=weight.device)
    for row, prompt in enumerate(prompts):
        ids_BT[row, : len(prompt)] = torch.tensor(prompt[: max(ends)])
    logprob_BT = torch.zeros(ids_BT.shape, device=weight.device)
    cache = LatentCache(model.config, max(ends), weight.device, weight.dtype, num_sequences=num_rows)
    place, done_B = min(map(len, prompts)), begin_B >= end_B
    length_B = begin_B.clone()  # of prompt and answer so far
    while not done_B.all():
        logits_BV = model(ids_BT[:, cache.length : place], cache, last_only=True)[:, 0]
        logprob_BV = logits_BV.float().log_softmax(-1)
        id_B = _choose(logprob_BV, temperature, generator)
        answers_B = (begin_B <= place) & ~done_B
        ids_BT[answers_B, place] = id_B[answers_B]
        logprob_BT[answers_B, place] = logprob_BV.gather(-1, id_B[:, None])[answers_B, 0]
        place += 1
        length_B[answers_B] = place
        done_B |= answers_B & ((id_B == model.config.eos_id) | (place >= end_B))
    spans = list(zip(begin_B.tolist(), length_B.tolist(), strict=True))
    return [
        Answer(ids_BT[row, begin:end].tolist(), logprob_BT[row, begin:end].tolist())
        for row, (begin, end) in enumerate(spans)
    ]


def _choose(logprob_BV: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logprob_BV.argmax(-1)
    return torch.multinomial((logprob_BV / temperature).softmax(-1), 1, generator=generator)[:, 0]
