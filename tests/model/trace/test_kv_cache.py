"""Cache sizes against those of the released models."""

import doctest

import pytest

from model.trace import kv_cache
from model.trace.kv_cache import cache_bytes

V3 = {"num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
      "qk_nope_head_dim": 128, "v_head_dim": 128}  # fmt: skip


def test_the_released_models() -> None:
    assert cache_bytes(V3) == {
        "MLA": 70_272,
        "MLA expanded": 4_997_120,
        "MHA": 3_997_696,
        "GQA-8": 249_856,
        "MQA": 31_232,
    }
    assert cache_bytes(V3, 131_072)["MLA"] / 2**30 == pytest.approx(8.58, abs=0.005)


def test_index_keys_count_in_the_layers_that_have_an_indexer() -> None:
    assert cache_bytes(V3 | {"index_head_dim": 128})["MLA"] == 70_272 + 15_616
    some = {"index_head_dim": 128, "indexer_types": ["full"] + ["shared"] * 60}
    assert cache_bytes(V3 | some)["MLA"] == 70_272 + 256


def test_worked_example() -> None:
    assert doctest.testmod(kv_cache) == (0, 2)
