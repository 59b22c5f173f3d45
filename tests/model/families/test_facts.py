"""Facts of a folder without its weights: counted on the built model, and by hand."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import Qwen3MoeConfig

from model.checkpoint.header import CheckpointError
from model.families.facts import Cache, facts_of
from model.families.opening import turn
from tests.families import EXPERTS, TOP_K, build, saved

EXPERT_WEIGHTS = 3 * 32 * 64  # gate, up and down of one expert


def test_facts_of_qwen3_moe() -> None:
    facts = facts_of(saved("qwen3_moe"))
    assert (facts.model_type, facts.text_type, facts.model_class) == ("qwen3_moe", "qwen3_moe", "Qwen3MoeForCausalLM")
    assert facts.parameters == sum(weight.numel() for weight in build("qwen3_moe").parameters())
    assert facts.active_parameters == facts.parameters - 4 * (EXPERTS - TOP_K) * EXPERT_WEIGHTS
    assert facts.blocks == tuple(f"model.layers.{layer}.mlp" for layer in range(4))
    assert (facts.num_experts, facts.top_k, facts.groups) == (EXPERTS, TOP_K, None)
    assert facts.cache == Cache(4 * 2 * 2 * 16, 0, 0)  # layers, keys and values, heads, width
    assert facts.attention == ("full_attention",) * 4
    assert facts.attention_layers == (0, 1, 2, 3)
    assert facts.num_bytes == 4 * facts.parameters
    assert facts.stored is not None
    assert facts.stored.num_bytes == facts.num_bytes
    assert facts.stored.dtypes == ("F32",)


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("deepseek_v3", {"block_layers": (1, 2, 3), "groups": (2, 1), "cache": Cache(4 * (32 + 8), 0, 0)}),
        ("gpt_oss", {"cache": Cache(2 * 2 * 2 * 16, 2 * 2 * 2 * 16, 8), "num_kv_heads": 2}),
        ("jamba", {"block_layers": (1, 3), "attention_layers": (1, 3), "cache": Cache(2 * 2 * 2 * 16, 0, 0)}),
        ("jetmoe", {"block_layers": (0, 0, 1, 1, 2, 2, 3, 3), "num_experts": 8}),
        ("dbrx", {"top_k": TOP_K, "width": 64, "context": 512, "cache": None}),
        ("longcat_flash", {"num_experts": 8, "num_idle": 3, "num_layers": 2}),
        ("deepseek_v4", {"num_streams": 4, "cache": None, "top_k": TOP_K}),
        ("phimoe", {"top_k": 2}),
        ("kimi_k25", {"model_type": "kimi_k25", "text_type": "deepseek_v3"}),
    ],
)
def test_facts_of_other_families(family: str, values: dict[str, object]) -> None:
    facts = facts_of(saved(family))
    assert {name: getattr(facts, name) for name in values} == values


def test_active_parameters_are_those_of_the_language_model() -> None:
    facts = facts_of(saved("ernie4_5_vl_moe"))
    model = build("ernie4_5_vl_moe")
    text = sum(weight.numel() for weight in model.model.language_model.parameters())
    images = sum(w.numel() for name, w in model.named_parameters() if "vision_moe.experts" in name)
    experts = sum(w.numel() for name, w in model.named_parameters() if "text_moe.experts" in name)
    assert facts.active_parameters == text - images - experts * (EXPERTS - TOP_K) // EXPERTS
    assert facts.blocks == tuple(f"model.language_model.layers.{layer}.mlp.text_moe" for layer in (1, 2, 3))


def test_large_model_without_weights_takes_seconds(tmp_path: Path) -> None:
    config = Qwen3MoeConfig(  # Qwen3-235B-A22B
        vocab_size=151_936, hidden_size=4096, moe_intermediate_size=1536, num_hidden_layers=94, num_attention_heads=64,
        num_key_value_heads=4, head_dim=128, num_experts=128, num_experts_per_tok=8, max_position_embeddings=40_960,
        dtype=torch.bfloat16,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    begin = time.process_time()
    facts = facts_of(tmp_path)
    assert time.process_time() - begin < 20
    assert round(facts.parameters / 1e9) == 235
    assert facts.active_parameters is not None
    assert round(facts.active_parameters / 1e9) == 22
    assert facts.num_bytes == 2 * facts.parameters
    assert facts.stored is None


def test_incomplete_folder_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("qwen3_moe"), tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    with pytest.raises(CheckpointError, match="is missing, so its values would be made up"):
        facts_of(folder)


def test_layers_with_different_experts_are_refused(tmp_path: Path) -> None:
    build("hunyuan_v1_moe", moe_topk=[3, 3, 2, 3]).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"^the layers of this model differ in their experts \(2 of 8, 3 of 8\)"):
        facts_of(tmp_path)


def test_facts_wait_until_another_model_is_loaded() -> None:
    """transformers changes its own classes while it loads; read meanwhile, LFM2 seemed to lack its tied head."""
    with ThreadPoolExecutor(1) as pool:
        with turn(saved("lfm2_moe")):
            facts = pool.submit(facts_of, saved("lfm2_moe"))
            with pytest.raises(TimeoutError):
                facts.result(0.3)
        assert facts.result(30).model_type == "lfm2_moe"
