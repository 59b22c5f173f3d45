"""Times of one decoded token: what grows with the context and what does not."""

import pytest
import torch

from model.run.decode_cost import decode_cost, median_us
from tests.models import random_model, tiny_config

SPARSE = {"model_type": "deepseek_v32", "index_heads": 8, "index_head_dim": 16, "index_topk": 8}


def test_median_is_of_the_later_calls() -> None:
    calls: list[int] = []
    assert median_us(lambda: calls.append(1), 20, torch.device("cpu")) > 0
    assert len(calls) == 22


def test_clock_waits_for_what_a_gpu_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: done.append(device.type))
    median_us(lambda: done.append("call"), 2, torch.device("cuda"))
    assert done == ["cuda", "call", "cuda"] * 2


def test_selected_keys_cost_less_than_every_key_of_a_long_context() -> None:
    model = random_model(tiny_config(num_heads=8, **SPARSE))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    long, short = (decode_cost(model, 2, context, repeats=60) for context in (32_768, 64))
    torch.set_num_threads(threads)
    assert (long.context, short.context) == (32_768, 64)
    assert long.dense > 4 * long.sparse  # 32,768 keys against 8
    assert long.sparse < 4 * short.sparse  # a wide bound for a busy machine; 512 times as many keys
    assert long.indexer > short.indexer


def test_context_within_what_is_kept_is_dense() -> None:
    found = decode_cost(random_model(tiny_config(**SPARSE)), 1, 5, repeats=5)
    assert min(found.dense, found.sparse, found.indexer) > 0
    assert decode_cost(random_model(tiny_config(**SPARSE)), 1, 64, top_k=3, repeats=5).context == 64


def test_layer_without_an_indexer_is_an_error() -> None:
    with pytest.raises(AssertionError):
        decode_cost(random_model(tiny_config()), 1, 5)
