"""The parts of DeepSeek-V4 agree with the released tensors, the published totals, and transformers' model."""

import json
import math
from typing import Any

import pytest

from model.checkpoint import costs
from model.checkpoint.embedded import RELEASED_V4, released_config
from model.checkpoint.parts import Part, Parts
from model.checkpoint.parts_v4 import FP4, V4Config, v4_parts
from model.checkpoint.sizes import FP8

FLASH, PRO = RELEASED_V4
# Shapes of tensors in the released files, as their headers list them.
SHAPES = {
    FLASH: {
        "csa-attention": {
            "attn.wq_a.weight": (1024, 4096), "attn.wq_b.weight": (32768, 1024), "attn.wkv.weight": (512, 4096),
            "attn.wo_a.weight": (8192, 4096), "attn.wo_b.weight": (4096, 8192), "attn.attn_sink": (64,),
            "attn.q_norm.weight": (1024,), "attn.kv_norm.weight": (512,), "attn.compressor.ape": (4, 1024),
            "attn.compressor.wgate.weight": (1024, 4096), "attn.compressor.wkv.weight": (1024, 4096),
            "attn.compressor.norm.weight": (512,),
        },
        "csa-indexer": {
            "attn.indexer.wq_b.weight": (8192, 1024), "attn.indexer.weights_proj.weight": (64, 4096),
            "attn.indexer.compressor.ape": (4, 256), "attn.indexer.compressor.norm.weight": (128,),
            "attn.indexer.compressor.wgate.weight": (256, 4096), "attn.indexer.compressor.wkv.weight": (256, 4096),
        },
        "csa-gate": {"ffn.gate.weight": (256, 4096), "ffn.gate.bias": (256,)},
        "window_hash-gate": {"ffn.gate.weight": (256, 4096), "ffn.gate.tid2eid": (129280, 6)},
        "hca-ffn_mix": {"hc_ffn_fn": (24, 16384), "hc_ffn_base": (24,), "hc_ffn_scale": (3,)},
    },
    PRO: {
        "hca-attention": {
            "attn.wq_a.weight": (1536, 7168), "attn.wq_b.weight": (65536, 1536), "attn.wkv.weight": (512, 7168),
            "attn.wo_a.weight": (16384, 4096), "attn.wo_b.weight": (7168, 16384), "attn.attn_sink": (128,),
            "attn.q_norm.weight": (1536,), "attn.kv_norm.weight": (512,), "attn.compressor.ape": (128, 512),
            "attn.compressor.wgate.weight": (512, 7168), "attn.compressor.wkv.weight": (512, 7168),
            "attn.compressor.norm.weight": (512,),
        },
        "csa-attention_mix": {"hc_attn_fn": (24, 28672), "hc_attn_base": (24,), "hc_attn_scale": (3,)},
        "csa-shared": {
            "ffn.shared_experts.w1.weight": (3072, 7168), "ffn.shared_experts.w3.weight": (3072, 7168),
            "ffn.shared_experts.w2.weight": (7168, 3072),
        },
    },
}  # fmt: skip


def published(name: str) -> dict[str, Any]:
    return json.loads(released_config(name).read_text(encoding="utf-8"))


def released(name: str) -> Parts:
    return v4_parts(V4Config.from_json(published(name)))


def part(parts: Parts, key: str) -> Part:
    return next(each for each in parts.all if each.key == key)


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in SHAPES.items() for key in keys])
def test_shapes_are_those_of_the_released_files(name: str, key: str) -> None:
    held = {each.name.removeprefix("layers.{layer}."): each.shape for each in part(released(name), key).tensors}
    assert held == SHAPES[name][key]


@pytest.mark.parametrize(("name", "total", "active", "digits"), [(FLASH, 284e9, 13e9, -9), (PRO, 1.6e12, 49e9, -11)])
def test_totals_are_those_of_the_report(name: str, total: float, active: float, digits: int) -> None:
    parts = released(name)
    cost = costs.model_cost(parts, 0, "bfloat16")
    assert round(cost.parameters, digits) == total
    # The report's count of active parameters leaves out the embedding, of which a token reads one row.
    assert round(cost.active - parts.before[0].active, -9) == active


def test_parameters_are_those_of_the_model_in_transformers() -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.DeepseekV4Config(**published(FLASH))
    with torch.device("meta"):
        network = transformers.DeepseekV4ForCausalLM(config)
    held = sum(each.numel() for each in network.parameters())
    held += sum(each.numel() for key, each in network.named_buffers() if key.endswith("e_score_correction_bias"))
    parts = released(FLASH)
    assert costs.model_cost(parts, 0, "bfloat16").parameters == held
    # transformers spells the configuration anew when it saves it; the parts are the same.
    assert V4Config.from_json(config.to_dict()) == parts.config


def test_layers_with_the_same_attention_and_router_form_a_block() -> None:
    blocks = {block.name: block.layers for block in released(FLASH).blocks}
    assert blocks == {
        "window_hash": (0, 1),
        "csa_hash": (2,),
        "hca": tuple(range(3, 43, 2)),
        "csa": tuple(range(4, 43, 2)),
    }
    assert [(block.name, len(block.layers)) for block in released(PRO).blocks] == [
        ("hca_hash", 2), ("csa_hash", 1), ("hca", 29), ("csa", 29),
    ]  # fmt: skip
    assert [each.kind for each in released(FLASH).blocks[3].parts] == [
        "attention_mix", "attention_norm", "indexer", "attention", "ffn_mix", "ffn_norm", "gate", "experts", "shared",
    ]  # fmt: skip
    assert len({each.key for each in released(FLASH).all}) == len(released(FLASH).all)


def test_expert_ids_are_no_parameters_and_biases_are_no_products() -> None:
    parts = released(FLASH)
    assert part(parts, "window_hash-gate").parameters == 256 * 4096
    assert part(parts, "csa-gate").parameters == 256 * 4096 + 256
    compressed, window = part(parts, "hca-attention"), part(parts, "window_hash-attention")
    assert compressed.parameters - window.parameters == 2 * 512 * 4096 + 128 * 512 + 512
    assert compressed.multiply_adds() - window.multiply_adds() == 2 * 512 * 4096
    # Three weighted sums of four streams: into the part (4), out of it (4), and among the streams (16).
    assert part(parts, "csa-ffn_mix").multiply_adds() == 24 * 16384 + 24 * 4096


def test_what_attention_reads_of_a_context() -> None:
    parts, each = released(FLASH), 2 * 64 * 512  # a score and a weighted value, for 64 heads of 512
    window, heavy, sparse, indexer = (
        part(parts, key) for key in ("window_hash-attention", "hca-attention", "csa-attention", "csa-indexer")
    )
    for context, latest, blocks, entries, scored in (
        (127, 127, 0, 31, 31), (128, 128, 1, 32, 32), (4095, 128, 31, 512, 1023), (2**20, 128, 8192, 512, 2**18),
    ):  # fmt: skip
        assert window.multiply_adds(context) - window.multiply_adds() == latest * each
        assert heavy.multiply_adds(context) - heavy.multiply_adds() == (latest + blocks) * each
        assert sparse.multiply_adds(context) - sparse.multiply_adds() == (latest + entries) * each
        assert indexer.multiply_adds(context) - indexer.multiply_adds() == scored * 64 * 129
        assert (heavy.cache_size(context), sparse.cache_size(context)) == (
            512 * (latest + blocks),
            512 * (latest + scored),
        )


def test_cache_of_a_further_token_and_of_the_windows() -> None:
    # Flash: 21 CSA layers of 512 / 4 and 128 / 4 values, 20 HCA layers of 512 / 128, 2 bytes each.
    assert costs.model_cost(released(FLASH), 0, "bfloat16").cache_bytes_kept == 2 * (21 * (128 + 32) + 20 * 4) == 6_880
    assert costs.model_cost(released(PRO), 0, "bfloat16").cache_bytes_kept == 2 * (30 * 160 + 31 * 4) == 9_848
    assert costs.window_bytes(released(FLASH)) == 43 * 128 * 512 * 2
    assert costs.cache_bytes(released(FLASH), 1024) == 1024 * 6_880 + 43 * 128 * 512 * 2


def test_bytes_in_each_form() -> None:
    experts = part(released(FLASH), "csa-experts")
    size = 3 * 2048 * 4096
    assert experts.weight_bytes("bfloat16") == 6 * 2 * size
    assert experts.weight_bytes(FP8) == 6 * (size + 3 * 16 * 32)
    assert experts.weight_bytes(FP4) == 6 * (size // 2 + size // 32)
    mix = part(released(FLASH), "csa-ffn_mix")
    assert {mix.weight_bytes(form) for form in released(FLASH).dtypes} == {4 * (24 * 16384 + 24 + 3)}
    assert part(released(FLASH), "embedding").weight_bytes(FP4) == 2 * 4096


def test_multi_token_prediction_has_a_window_and_a_scored_router() -> None:
    mtp = released(FLASH).mtp
    assert mtp is not None
    names = {each.name: each.shape for each in mtp.tensors}
    assert (names["mtp.0.e_proj.weight"], names["mtp.0.hc_head_fn"]) == ((4096, 4096), (4, 16384))
    assert "mtp.0.ffn.gate.bias" in names
    assert not [name for name in names if "compressor" in name or "tid2eid" in name]
    assert [read.most for read in mtp.reads] == [128]
    assert v4_parts(V4Config.from_json(published(FLASH) | {"num_nextn_predict_layers": 0})).mtp is None


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"o_groups": None}, "misstates"),
        ({"compress_ratios": [7] * 43}, "misstates 7"),
        ({"compress_rates": [4, 128]}, "misstates"),
        ({"hc_mult": 0}, "hc_mult as 0"),
    ],
)
def test_configuration_that_cannot_be_read(change: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        V4Config.from_json(published(FLASH) | change)
    with pytest.raises(ValueError, match="'sliding_window'"):
        V4Config.from_json({key: value for key, value in published(FLASH).items() if key != "sliding_window"})


def test_costs_of_models_end_at_their_longest_context() -> None:
    flash = released(FLASH)
    work = costs.work_of_models({"V4": flash}, [1024, 2**20, 2**21])
    assert work.sel(model="V4").values.tolist()[:2] == [costs.attention_work(flash, at) for at in (1024, 2**20)]
    assert math.isnan(work.values[0, 2])
    assert costs.cache_of_models({"V4": flash}, [1024]).values.tolist() == [[costs.cache_bytes(flash, 1024)]]
