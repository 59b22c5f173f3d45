"""The generations side by side: every cell that a configuration states is that of the configuration."""

import json
from typing import Any

import pytest

from model.checkpoint import costs
from model.checkpoint.embedded import released_config
from pages.learn.architecture.catalogue import load
from pages.learn.what_changed.generations import models, rows

NAMES = {"V3": "deepseek-v3", "V3.2": "deepseek-v3.2", "V4-Flash": "deepseek-v4-flash", "V4-Pro": "deepseek-v4-pro"}
# The released config.json of DeepSeek-V2, in part.
V2: dict[str, Any] = {
    "num_hidden_layers": 60, "hidden_size": 5120, "first_k_dense_replace": 1, "num_experts_per_tok": 6,
    "n_routed_experts": 160, "n_shared_experts": 2, "scoring_func": "softmax", "topk_method": "group_limited_greedy",
    "n_group": 8, "topk_group": 3, "norm_topk_prob": False, "routed_scaling_factor": 16.0, "num_attention_heads": 128,
    "max_position_embeddings": 163840, "vocab_size": 102400, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def config(model: str) -> dict[str, Any]:
    return V2 if model == "V2" else json.loads(released_config(NAMES[model]).read_text(encoding="utf-8"))


def expected(c: dict[str, Any]) -> dict[str, str]:
    """The cells that a configuration states."""
    is_hashed, normalised = "num_hash_layers" in c, "normalised" if c["norm_topk_prob"] else "not normalised"
    return {
        "layers": f"{c['num_hidden_layers']} × {c['hidden_size']:,}",
        "first_layers": f"{c['num_hash_layers']} routed by token id"
        if is_hashed
        else f"{c['first_k_dense_replace']} dense",
        "experts": f"{c['num_experts_per_tok']} of {c['n_routed_experts']}",
        "shared": str(c["n_shared_experts"]),
        "affinity": c["scoring_func"].replace("sqrtsoftplus", "√softplus"),
        "bias": "no" if c["topk_method"] != "noaux_tc" else "yes, not in the first 3 layers" if is_hashed else "yes",
        "groups": f"{c['topk_group']} of {c['n_group']}" if "n_group" in c else "no groups",
        "factor": f"{normalised}, ×\N{NO-BREAK SPACE}{c['routed_scaling_factor']:g}",
        "heads": str(c["num_attention_heads"]),
        "activation": "SwiGLU" if "swiglu_limit" not in c else f"SwiGLU, cut off at {c['swiglu_limit']:g}",
        "context": f"{c['max_position_embeddings']:,}",
        "streams": str(c.get("hc_mult", 1)),
        "mtp": "depth 1" if c.get("num_nextn_predict_layers") else "no",
        "vocabulary": f"{c['vocab_size']:,}",
    }


@pytest.mark.parametrize("model", models())
def test_cells_are_those_of_the_configuration(model: str) -> None:
    at = models().index(model)
    stated = expected(config(model))
    assert {key: rows()[key].cells[at] for key in stated} == stated


def test_cache_per_token_is_derived() -> None:
    kept = [costs.model_cost(load(name).parts, 0, "bfloat16").cache_bytes_kept for name in NAMES.values()]
    v2 = 2 * V2["num_hidden_layers"] * (V2["kv_lora_rank"] + V2["qk_rope_head_dim"])
    assert rows()["cache"].cells == tuple(f"{number:,} bytes" for number in [v2, *kept])


def test_reads_are_those_of_the_parts() -> None:
    for model in ("V4-Flash", "V4-Pro"):
        attention = {part.variant: part for part in load(NAMES[model]).parts.main if part.kind == "attention"}
        window, blocks = attention["csa"].reads
        cell = rows()["reads"].cells[models().index(model)]
        assert cell == f"{window.most} tokens; in CSA {blocks.most:,} entries, in HCA all entries"
        assert attention["hca"].reads[1].most is None


def test_every_row_has_a_cell_per_model_and_sources() -> None:
    assert models() == ("V2", *NAMES)
    for row in rows().values():
        assert row.name
        assert len(row.cells) == len(models())
        assert all(row.cells)
        assert row.references
