"""Several answers to each prompt, drawn from a model and rewarded where they are right."""

from typing import NamedTuple

import numpy as np
import torch

from model.network.transformer import Transformer
from model.train.data.corpus import CorpusError
from model.train.post_training.correctness import judge
from model.train.post_training.generate import Answer, generate
from model.train.post_training.pairs import Framing, Pair


class Group(NamedTuple):
    """Answers to one prompt."""

    given: list[int]
    answers: list[Answer]
    rewards: list[float]

    @property
    def has_signal(self) -> bool:
        """Whether some answer is better than another."""
        return len(set(self.rewards)) > 1


class Prompts:
    """Pairs whose prompts are asked; which ones a step asks depends on the seed and the step's number alone."""

    def __init__(self, pairs: list[Pair], framing: Framing, length: int, new_tokens: int) -> None:
        """Keep the pairs whose prompts leave room for an answer.

        Raises:
            CorpusError: none does.
        """
        framed = [(framing.given(pair.prompt), pair) for pair in pairs]
        self.prompts = [(given, pair) for given, pair in framed if len(given) + new_tokens <= length]
        if not self.prompts:
            raise CorpusError(f"no prompt leaves room for {new_tokens} tokens of {length}")

    def batch(self, seed: int, step: int, num_prompts: int) -> list[tuple[list[int], Pair]]:
        """Tokens and pairs of a step's prompts."""
        picks = np.random.default_rng([seed, step]).integers(len(self.prompts), size=num_prompts)
        return [self.prompts[pick] for pick in picks.tolist()]


def draw(
    model: Transformer, framing: Framing, asked: list[tuple[list[int], Pair]], size: int, new_tokens: int, seed: int
) -> list[Group]:
    """Answer each prompt `size` times at temperature 1 in at most so many tokens, and reward the answers."""
    prompts = [given for given, _ in asked for _ in range(size)]
    generator = torch.Generator().manual_seed(seed)
    answers = generate(model, prompts, [new_tokens] * len(prompts), 1.0, generator)
    ends = model.config.eos_id
    groups = []
    for place, (given, pair) in enumerate(asked):
        own = answers[place * size : (place + 1) * size]
        right = [judge(pair.kind, framing.said(answer.ids), pair.response).right for answer in own]
        rewards = [float(good and answer.ids[-1] == ends) for good, answer in zip(right, own, strict=True)]
        groups.append(Group(given, own, rewards))
    return groups
