"""Generation of answers to many prompts at once.

A row is one prompt with its answer. All rows are always at the same position, so they share a cache and need neither
padding nor mask. One forward pass reads all rows up to the end of the shortest prompt; later passes read one token per
row: the next token of the row's prompt, or a generated token. The answer of a row does not depend on the other rows.

Shape suffixes: B rows, T positions, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.network.cache import LatentCache
from model.network.transformer import Transformer

ROWS = 64  # prompts per batch


class Answer(NamedTuple):
    """A model's answer to one prompt."""

    ids: list[int]  # token ids; the last id is EOS if the answer ended
    logprobs: list[float]  # log-probability of each token at temperature 1, nats


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[Answer]:
    """Return the answer to every prompt; an answer ends at EOS, at its limit, or at the end of the context.

    Args:
        model: the model; its training mode is restored afterwards.
        prompts: token ids of each prompt.
        limits: largest number of tokens of each answer.
        temperature: 0 selects the likeliest token; above 0, tokens are sampled from the whole vocabulary.
        generator: random generator for sampling, on the CPU, so a seed gives the same draws on every device.
    """
    was_training = model.training
    model.eval()
    answers: list[Answer | None] = [None] * len(prompts)
    by_length = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # rows of similar length end together
    for first in range(0, len(by_length), ROWS):
        rows = by_length[first : first + ROWS]
        batch = _generate_rows(
            model, [prompts[row] for row in rows], [limits[row] for row in rows], temperature, generator
        )
        for row, answer in zip(rows, batch, strict=True):
            answers[row] = answer
    model.train(was_training)
    return [answer for answer in answers if answer is not None]


@torch.inference_mode()
def _generate_rows(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    temperature: float,
    generator: torch.Generator | None,
) -> list[Answer]:
    weight, num_rows = model.embedding.weight, len(prompts)
    ends = [min(len(prompt) + limit, model.config.max_positions) for prompt, limit in zip(prompts, limits, strict=True)]
    start_B = torch.tensor([len(prompt) for prompt in prompts], device=weight.device)
    end_B = torch.tensor(ends, device=weight.device)
    ids_BT = torch.zeros(num_rows, max(ends), dtype=torch.int64, device=weight.device)
    for row, prompt in enumerate(prompts):
        ids_BT[row, : len(prompt)] = torch.tensor(prompt[: max(ends)])
    logprob_BT = torch.zeros(ids_BT.shape, device=weight.device)
    cache = LatentCache(model.config, max(ends), weight.device, weight.dtype, num_sequences=num_rows)
    position, done_B = min(map(len, prompts)), start_B >= end_B
    length_B = start_B.clone()  # tokens of prompt and answer so far
    while not done_B.all():
        logits_BV = model(ids_BT[:, cache.length : position], cache, last_only=True)[:, 0]
        logprob_BV = logits_BV.float().log_softmax(-1)
        id_B = _sample(logprob_BV, temperature, generator)
        is_answer_B = (start_B <= position) & ~done_B
        ids_BT[is_answer_B, position] = id_B[is_answer_B]
        logprob_BT[is_answer_B, position] = logprob_BV.gather(-1, id_B[:, None])[is_answer_B, 0]
        position += 1
        length_B[is_answer_B] = position
        done_B |= is_answer_B & ((id_B == model.config.eos_id) | (position >= end_B))
    spans = list(zip(start_B.tolist(), length_B.tolist(), strict=True))
    return [
        Answer(ids_BT[row, start:end].tolist(), logprob_BT[row, start:end].tolist())
        for row, (start, end) in enumerate(spans)
    ]


def _sample(logprob_BV: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logprob_BV.argmax(-1)
    drawn_B1 = torch.multinomial((logprob_BV / temperature).softmax(-1).cpu(), 1, generator=generator)
    return drawn_B1[:, 0].to(logprob_BV.device)
