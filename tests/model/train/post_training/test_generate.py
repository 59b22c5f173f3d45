"""Answers of many prompts at once are those of each alone, sparse attention included."""

from collections.abc import Callable

import pytest
import torch

from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.train.post_training.generate import generate
from tests.models import random_model, tiny_config

PROMPTS = [[0, 7, 9], [0, 5, 6, 8, 11, 12, 40, 41], [0, 3], [0, 5, 6, 8, 11, 12, 40, 42]]


def model_of(**changes: object) -> Transformer:
    return random_model(tiny_config(num_layers=2, max_positions=24, **changes), seed=1)


def sparse() -> Transformer:
    return model_of(model_type="deepseek_v32", index_heads=16, index_head_dim=12, index_topk=5)


def plain_answer(model: Transformer, prompt: list[int], most: int, config: ModelConfig) -> list[int]:
    """One prompt, without a cache."""
    ids, end = list(prompt), min(len(prompt) + most, config.max_positions)
    while len(ids) < end and (ids[-1] != config.eos_id or len(ids) == len(prompt)):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("make", [model_of, sparse])
def test_each_row_is_answered_as_alone(make: Callable[[], Transformer]) -> None:
    model, most = make(), [10, 4, 30, 9]
    found = generate(model, PROMPTS, most)
    assert [answer.ids for answer in found] == [
        plain_answer(model, prompt, room, model.config) for prompt, room in zip(PROMPTS, most, strict=True)
    ]
    assert [len(answer.ids) for answer in found][1] == 4
    assert len(found[2].ids) == 22  # to the end of the context


def test_answer_ends_at_the_mark_of_the_end() -> None:
    model = model_of()
    end = generate(model, [PROMPTS[0]], [10])[0].ids[3]
    marked = random_model(tiny_config(num_layers=2, max_positions=24, eos_id=end), seed=1)
    ids = generate(marked, PROMPTS, [10] * 4)[0].ids
    assert ids[-1] == end
    assert end not in ids[:-1]
    assert len(ids) <= 4


def test_log_probabilities_are_those_of_one_pass() -> None:
    model = sparse().train()
    drawn = generate(model, PROMPTS, [12] * 4, temperature=1.0, generator=torch.Generator().manual_seed(5))
    assert model.training
    for prompt, answer in zip(PROMPTS, drawn, strict=True):
        with torch.no_grad():
            logprobs = model.eval()(torch.tensor([prompt + answer.ids]))[0].log_softmax(-1)
        expected = [float(logprobs[len(prompt) - 1 + place, token]) for place, token in enumerate(answer.ids)]
        assert answer.logprobs == pytest.approx(expected, abs=2e-4)


def test_draws_depend_on_the_seed_alone() -> None:
    model = sparse()

    def ids(seed: int) -> list[list[int]]:
        drawn = generate(model, PROMPTS, [12] * 4, temperature=1.0, generator=torch.Generator().manual_seed(seed))
        return [answer.ids for answer in drawn]

    assert ids(5) == ids(5)
    assert ids(5) != ids(6)


def test_prompt_that_fills_the_context_gets_no_answer() -> None:
    answers = generate(model_of(), [[0] * 30, [0, 7, 9]], [5, 5])
    assert [len(answer.ids) for answer in answers] == [0, 5]
