"""Cache sizes against the released models' and against those worked out from our own configuration."""

import doctest
from typing import Any

import pytest

from model.checkpoint.sizes import cache_bytes as of_sizes
from model.trace import kv_cache
from model.trace.kv_cache import cache_bytes
from tests.models import tiny_config

V3 = {"num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
      "qk_nope_head_dim": 128, "v_head_dim": 128}  # fmt: skip


def test_the_released_models() -> None:
    assert cache_bytes(V3) == {"MLA": 70_272, "MHA": 3_997_696, "GQA-8": 249_856, "MQA": 31_232}
    assert cache_bytes(V3, 131_072)["MLA"] / 2**30 == pytest.approx(8.58, abs=0.005)
    assert cache_bytes(V3 | {"index_head_dim": 128})["MLA"] == 70_272 + 15_616


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_heads": 16}, {"model_type": "deepseek_v32", "index_heads": 2, "index_head_dim": 16, "index_topk": 8}],
)
def test_agrees_with_the_sizes_of_a_checkpoint(changes: dict[str, Any]) -> None:
    config = tiny_config(**changes)
    expected = of_sizes(config, 4)
    assert cache_bytes(config.to_json(), bytes_per_value=4).items() <= expected.items()


def test_worked_example() -> None:
    assert doctest.testmod(kv_cache) == (0, 2)
