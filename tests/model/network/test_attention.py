"""The two forms of latent attention agree, and a run through the cache agrees with one pass."""

import pytest
import torch

from model.network.attention import attention_weights, causal_mask
from model.network.cache import LatentCache
from model.network.config import Yarn
from tests.closeness import ROUNDING, relative_error
from tests.models import random_model, tiny_config

YARN = Yarn(factor=4, original_max_positions=64, mscale=1.0, mscale_all_dim=1.0)
CPU = torch.device("cpu")


@pytest.mark.parametrize("changes", [{}, {"q_lora_rank": None}, {"yarn": YARN}, {"value_head_dim": 32}])
def test_absorbed_form_equals_naive_form(changes: dict) -> None:
    config = tiny_config(**changes)
    model = random_model(config)
    attention = model.blocks[0].attention
    x = torch.randn(1, 9, config.hidden_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        content, position, latent = attention.project(x, model.rotary(0, 9))
        naive = attention.naive(content, position, latent, None)[:, -1:]
        absorbed = attention.absorbed(content[:, -1:], position[:, -1:], latent, None)
    assert relative_error(absorbed, naive) <= ROUNDING


@pytest.mark.parametrize("changes", [{}, {"q_lora_rank": None}, {"yarn": YARN}, {"attention_bias": True}])
@pytest.mark.parametrize("chunks", [[1] * 20, [7] + [1] * 13, [7, 5, 8], [19, 1]])
def test_any_split_through_the_cache_equals_one_pass(changes: dict, chunks: list[int]) -> None:
    config = tiny_config(**changes)
    model = random_model(config)
    ids = torch.randint(0, config.vocab_size, (1, 20), generator=torch.Generator().manual_seed(2))
    cache = LatentCache(config, 20, CPU, torch.float32)
    with torch.inference_mode():
        whole = model(ids)
        parts = [model(part, cache) for part in ids.split(chunks, dim=1)]
    assert relative_error(torch.cat(parts, 1), whole) <= ROUNDING
    assert cache.length == 20


def test_full_cache_is_an_error_that_says_so() -> None:
    config = tiny_config()
    with pytest.raises(ValueError, match="the cache holds 3 tokens, not 4"):
        random_model(config)(torch.zeros(1, 4, dtype=torch.int64), LatentCache(config, 3, CPU, torch.float32))


def test_cache_counts_one_latent_per_token_and_layer() -> None:
    config = tiny_config()
    cache = LatentCache(config, 4, CPU, torch.bfloat16)
    assert cache.bytes_per_token == config.num_layers * (16 + 8) * 2


def test_causal_mask_of_late_queries() -> None:
    expected = [[True, True, True, False], [True, True, True, True]]
    assert causal_mask(2, 4, CPU).tolist() == expected


def test_attention_weights_are_causal_distributions() -> None:
    weights = attention_weights(torch.randn(1, 2, 5, 6), torch.randn(1, 2, 5, 6), 0.4)
    assert torch.allclose(weights.sum(-1), torch.ones(1, 2, 5))
    assert (weights.triu(1) == 0).all()


@pytest.mark.parametrize("changes", [{}, {"yarn": YARN}, {"model_type": "deepseek_v32", "index_heads": 16,
                                                           "index_head_dim": 12, "index_topk": 6}])  # fmt: skip
@pytest.mark.parametrize("chunks", [[1] * 20, [7] + [1] * 13, [7, 3, 10]])
def test_sequences_that_share_a_cache_see_nothing_of_each_other(changes: dict, chunks: list[int]) -> None:
    config = tiny_config(**changes)
    model = random_model(config)
    ids = torch.randint(0, config.vocab_size, (3, 20), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        cache = LatentCache(config, 20, CPU, torch.float32, num_sequences=3)
        together = torch.cat([model(part, cache) for part in ids.split(chunks, dim=1)], 1)
        alone = torch.cat([model(row[None]) for row in ids])
    assert relative_error(together, alone) <= ROUNDING
