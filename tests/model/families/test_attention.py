import math

import pytest
import torch
from torch import nn

from model.families.attention import as_applied, attention_weights
from model.families.tape import Tape
from tests.families import watched


def test_weights_by_hand() -> None:
    query = torch.tensor([[[[0.0], [math.log(3)]]]])
    key = torch.tensor([[[[1.0], [0.0]]]])
    causal = attention_weights(nn.Identity(), query, key, None, scaling=1.0)
    torch.testing.assert_close(causal[0, 0], torch.tensor([[1.0, 0.0], [0.75, 0.25]]))
    full = attention_weights(nn.Identity(), query, key, None, scaling=1.0, is_causal=False)
    torch.testing.assert_close(full[0, 0], torch.tensor([[0.5, 0.5], [0.75, 0.25]]))


def test_several_queries_after_a_cache_see_the_keys_before_them() -> None:
    """Two queries at the end of four tokens; all scores are equal."""
    query, key = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 4, 4)
    weights = attention_weights(nn.Identity(), query, key, None)
    torch.testing.assert_close(weights[0, 0], torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0], [1 / 4] * 4]))


@pytest.mark.parametrize("mask", [torch.tensor([[[[True, False], [False, False]]]]), torch.tensor([0.0, -torch.inf])])
def test_masks_are_boolean_or_added(mask: torch.Tensor) -> None:
    query = key = torch.randn(1, 2, 2, 4)
    weights = attention_weights(nn.Identity(), query, key[:, :1], mask)
    assert weights[0, :, 0].tolist() == [[1.0, 0.0]] * 2
    if mask.dtype == torch.bool:
        assert weights[0, :, 1].tolist() == [[0.0, 0.0]] * 2  # a row without any key


def test_the_share_of_a_sink_is_found() -> None:
    weights, value = torch.rand(4, 3, 5).softmax(-1), torch.randn(2, 5, 6)
    share = torch.rand(4, 3, 1)
    plain = weights @ value.repeat_interleave(2, dim=0)
    scaled = as_applied(weights, value, plain * share)
    torch.testing.assert_close(scaled.weights_HQS, weights * share)
    assert scaled.error < 1e-6
    assert torch.equal(as_applied(weights, value, plain).weights_HQS, weights)
    assert as_applied(weights, value, torch.randn(4, 3, 6)).error > 0.1


def test_transformers_gives_the_same_weights() -> None:
    model, seam = watched("qwen3_moe")
    tape, tokens = Tape(attention=list(seam.attention)[1:3]), list(range(3, 19))
    watched("qwen3_moe").logits(tokens, tape)
    recorded = tape.take().attention
    assert list(recorded) == list(seam.attention)[1:3]
    model.set_attn_implementation("eager")
    try:
        expected = model(torch.tensor([tokens]), output_attentions=True).attentions
    finally:
        model.set_attn_implementation("sdpa")
    for attended, weights in zip(recorded.values(), expected[1:3], strict=True):
        torch.testing.assert_close(attended.weights_HQS, weights[0], rtol=1e-4, atol=1e-6)
