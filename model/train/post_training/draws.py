"""Samples several answers to each prompt, and gives each answer a reward."""

from typing import NamedTuple

import numpy as np
import torch

from model.network.transformer import Transformer
from model.train.data.corpus import CorpusError
from model.train.post_training.correctness import judge
from model.train.post_training.generate import Answer, generate
from model.train.post_training.pairs import Framing, Pair


class Group(NamedTuple):
    """Sampled answers to one prompt, with their rewards."""

    prompt_ids: list[int]
    answers: list[Answer]
    rewards: list[float]

    @property
    def has_signal(self) -> bool:
        """Whether the rewards of the answers differ; equal rewards give no gradient."""
        return len(set(self.rewards)) > 1


class Prompts:
    """Prompts to answer; the prompts of a step depend only on the seed and the number of the step."""

    def __init__(self, pairs: list[Pair], framing: Framing, length: int, new_tokens: int) -> None:
        """Keep the pairs whose prompts leave `new_tokens` positions for an answer.

        Raises:
            CorpusError: no prompt leaves enough positions.
        """
        framed = [(framing.prompt_ids(pair.prompt), pair) for pair in pairs]
        self.prompts = [(prompt_ids, pair) for prompt_ids, pair in framed if len(prompt_ids) + new_tokens <= length]
        if not self.prompts:
            raise CorpusError(f"no prompt leaves room for {new_tokens} tokens of {length}")

    def batch(self, seed: int, step: int, num_prompts: int) -> list[tuple[list[int], Pair]]:
        """Return the prompts of a step: the token ids of each prompt, and its pair."""
        picks = np.random.default_rng([seed, step]).integers(len(self.prompts), size=num_prompts)
        return [self.prompts[pick] for pick in picks.tolist()]


def draw(
    model: Transformer, framing: Framing, prompts: list[tuple[list[int], Pair]], size: int, new_tokens: int, seed: int
) -> list[Group]:
    """Return `size` answers to each prompt, sampled at temperature 1, of at most `new_tokens` tokens each.

    The reward of an answer is 1 if it ends and is right, else 0.
    """
    repeated = [prompt_ids for prompt_ids, _ in prompts for _ in range(size)]
    generator = torch.Generator().manual_seed(seed)
    answers = generate(model, repeated, [new_tokens] * len(repeated), 1.0, generator)
    ends = model.config.eos_id
    groups = []
    for number, (prompt_ids, pair) in enumerate(prompts):
        own = answers[number * size : (number + 1) * size]
        right = [judge(pair.kind, framing.text(answer.ids), pair.response).right for answer in own]
        rewards = [float(good and answer.ids[-1] == ends) for good, answer in zip(right, own, strict=True)]
        groups.append(Group(prompt_ids, own, rewards))
    return groups
