"""Sampling: greedy, cut-offs against hand-computed cases, and draws that follow the distribution."""

import pytest
import torch

from model.run.request import LEAST_TEMPERATURE, RequestError, RunRequest
from model.run.sampling import choose, cut_off

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def kept(top_k: int, top_p: float) -> list[int]:
    return cut_off(LOGITS, top_k, top_p).isfinite().nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("top_k", "top_p", "expected"),
    [
        (0, 1.0, [0, 1, 2, 3]),
        (2, 1.0, [0, 1]),
        (9, 1.0, [0, 1, 2, 3]),
        (0, 0.5, [0]),
        (0, 0.51, [0, 1]),
        (0, 0.01, [0]),
    ],
)
def test_cut_offs(top_k: int, top_p: float, expected: list[int]) -> None:
    assert kept(top_k, top_p) == expected


def test_top_k_and_top_p_together_use_the_renormalised_mass() -> None:
    assert kept(3, 0.9) == [0, 1, 2]  # of the three that are left, two hold 0.842
    assert kept(3, 0.8) == [0, 1]


def test_temperature_zero_is_greedy() -> None:
    assert choose(LOGITS, RunRequest(prompt="a"), torch.Generator()) == 0


def test_draws_follow_the_tempered_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    request = RunRequest(prompt="a", temperature=0.5)
    draws = torch.tensor([choose(LOGITS, request, generator) for _ in range(4000)])
    expected = (LOGITS / 0.5).softmax(-1)
    assert torch.allclose(torch.bincount(draws, minlength=4) / 4000, expected, atol=0.03)


def test_the_lowest_temperature_can_be_drawn_at() -> None:
    request = RunRequest(prompt="a", temperature=LEAST_TEMPERATURE)
    assert choose(LOGITS * 1e4, request, torch.Generator().manual_seed(0)) == 0


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_logits_that_are_not_finite_choose_no_token(broken: float, temperature: float) -> None:
    logits = LOGITS.clone()
    logits[2] = broken
    with pytest.raises(RequestError, match="logits are not finite"):
        choose(logits, RunRequest(prompt="a", temperature=temperature, max_new_tokens=1), torch.Generator())
    only_read = RunRequest(prompt="a", temperature=temperature)  # what is chosen after a prompt is not fed
    assert 0 <= choose(logits, only_read, torch.Generator()) < 4
