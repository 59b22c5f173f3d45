"""The parts of a model agree with tensor names, published totals, and the tensors of the embedded models."""

import functools
import json
from pathlib import Path

import pytest
from safetensors import safe_open

from model.checkpoint.embedded import RELEASED, released_config
from model.checkpoint.names import scaled_weight
from model.checkpoint.parts import Part, Parts, read_parts
from model.checkpoint.sizes import FP8, model_sizes
from model.network.config import ModelConfig
from tests.models import random_model, tiny_config
from tests.parameters import count_parameters

PRESETS = Path(__file__).parents[3] / "model" / "presets"
EMBEDDED = [path.parent for path in sorted(PRESETS.glob("*/config.json"))]
SPARSE = {"model_type": "deepseek_v32", "index_heads": 2, "index_head_dim": 16, "index_topk": 8}


@functools.cache
def released(name: str) -> Parts:
    return read_parts(ModelConfig.from_json(json.loads(released_config(name).read_text())))


def part(parts: Parts, key: str) -> Part:
    return next(each for each in parts.all if each.key == key)


def configurations() -> list[ModelConfig]:
    alike = {"model_type": "glm_moe_dsa", "indexer_types": ("full", "full", "shared", "full", "shared")}
    v2 = {"model_type": "deepseek_v2", "scoring": "softmax", "selection": "greedy", "num_groups": 1}
    changes = [{}, {"tie_embeddings": True}, {"q_lora_rank": None}, {"attention_bias": True}, {"num_shared_experts": 0}]
    changes += [{"num_dense_layers": 0}, {"num_dense_layers": 5}, SPARSE, SPARSE | alike, v2 | {"num_kept_groups": 1}]
    paths = [*map(released_config, RELEASED), *(folder / "config.json" for folder in EMBEDDED)]
    files = [json.loads(path.read_text()) for path in paths]
    return [tiny_config(**change) for change in changes] + [ModelConfig.from_json(published) for published in files]


@pytest.mark.parametrize("config", configurations(), ids=lambda config: f"{config.model_type}-{config.num_layers}")
def test_parameters_of_all_parts_are_those_of_the_model(config: ModelConfig) -> None:
    parts = read_parts(config)
    total = sum(each.times * each.parameters for each in parts.main)
    active = sum(each.times * each.active for each in parts.main)
    assert (total, active) == count_parameters(config)
    assert sorted(layer for block in parts.blocks for layer in block.layers) == list(range(config.num_layers))
    assert len({each.key for each in parts.all}) == len(parts.all)


@pytest.mark.parametrize("folder", EMBEDDED, ids=lambda folder: folder.name)
def test_shapes_are_those_of_the_embedded_models(folder: Path) -> None:
    parts = read_parts(ModelConfig.from_json(json.loads((folder / "config.json").read_text())))
    expected = {}
    for each in parts.all:
        for tensor in each.tensors:
            for layer in each.layers or (0,):
                for expert in range(tensor.count):
                    expected[tensor.name.format(layer=layer, expert=expert)] = tensor.shape
    held = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as weights:
            held |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    assert {name: held.get(name) for name in expected} == expected
    assert [name for name in held.keys() - expected.keys() if scaled_weight(name) is None] == []


def test_parameters_are_those_of_a_loaded_model() -> None:
    config = tiny_config(**SPARSE)
    parts, network = read_parts(config), random_model(config)
    held = sum(parameter.numel() for parameter in network.parameters())
    held += sum(router.expert_bias.numel() for router in network.routers() if router.expert_bias is not None)
    assert sum(each.times * each.parameters for each in parts.main) == held


def test_released_v3() -> None:
    parts = released("deepseek-v3")
    assert [(block.name, block.layers[0], len(block.layers)) for block in parts.blocks] == [
        ("dense", 0, 3),
        ("moe", 3, 58),
    ]
    assert sum(each.times * each.parameters for each in parts.main) == 671_026_419_200
    assert sum(each.times * each.active for each in parts.main) == 37_552_297_472
    assert part(parts, "moe-attention").parameters == 187_107_328
    assert part(parts, "dense-ffn").parameters == 396_361_728
    assert part(parts, "moe-experts").parameters == 256 * 44_040_192
    assert parts.mtp is not None
    assert parts.mtp.parameters == 11_610_068_224
    assert parts.mtp.layers == (61,)
    assert not [each for each in parts.all if each.kind == "indexer"]


def test_v32_adds_an_indexer_to_every_layer_and_nothing_else() -> None:
    before, after = released("deepseek-v3"), released("deepseek-v3.2")
    added = {each.key for each in after.all} - {each.key for each in before.all}
    assert added == {"dense-indexer", "moe-indexer"}
    assert {part(after, key).parameters for key in added} == {13_959_424}
    assert sum(part(after, key).times for key in added) == 61
    assert sum(part(after, key).times * part(after, key).parameters for key in added) == 851_524_864
    kept = [each for each in before.main if part(after, each.key).tensors != each.tensors]
    assert kept == []
    assert after.mtp is not None
    assert before.mtp is not None
    assert after.mtp.parameters - before.mtp.parameters == 13_959_424


def test_multiply_adds_count_the_matrices_that_a_token_meets() -> None:
    parts = released("deepseek-v3")
    assert part(parts, "embedding").multiply_adds() == 0
    assert part(parts, "head").multiply_adds() == 129_280 * 7_168
    assert part(parts, "final_norm").multiply_adds() == 0
    assert part(parts, "moe-gate").multiply_adds() == 256 * 7_168
    assert part(parts, "moe-experts").multiply_adds() == 8 * 44_040_192
    attention = part(parts, "moe-attention")
    assert attention.multiply_adds() == 187_107_328 - 1_536 - 512  # all but its two norms
    assert attention.multiply_adds(10) - attention.multiply_adds() == 10 * 128 * 1_088


def test_sparse_attention_reads_no_more_than_it_selects_and_the_indexer_all() -> None:
    parts = released("deepseek-v3.2")
    attention, indexer = part(parts, "moe-attention"), part(parts, "moe-indexer")
    assert attention.multiply_adds(2_048) == attention.multiply_adds(131_072)
    assert indexer.multiply_adds(131_072) - indexer.multiply_adds() == 131_072 * 64 * 129
    assert (attention.cache_reads(131_072), indexer.cache_reads(131_072)) == (2_048 * 576, 131_072 * 128)


def test_cache_is_that_of_the_sizes() -> None:
    for name in RELEASED:
        parts = released(name)
        assert isinstance(parts.config, ModelConfig)
        cached = 2 * sum(each.times * each.cache_values for each in parts.main)
        assert cached == model_sizes(parts.config).cache["bfloat16"]["MLA"]
    assert 2 * sum(each.times * each.cache_values for each in released("deepseek-v3").main) == 70_272


def test_bytes_of_weights_that_a_token_reads() -> None:
    parts = released("deepseek-v3")
    embedding, head, attention = (part(parts, key) for key in ("embedding", "head", "moe-attention"))
    assert (embedding.weight_bytes("bfloat16"), head.weight_bytes("bfloat16")) == (2 * 7_168, 2 * 129_280 * 7_168)
    assert attention.weight_bytes("float32") == 4 * 187_107_328
    assert set(parts.dtypes) == {"float32", "bfloat16", FP8}
    # One byte per weight, four per block of 128 x 128, and the norms in bfloat16.
    scales = 12 * 56 + 192 * 12 + 5 * 56 + 256 * 4 + 56 * 128
    assert attention.weight_bytes(FP8) == 187_107_328 - 2_048 + 4 * scales + 2 * 2_048


def test_shared_head_is_counted_once_and_read_all_the_same() -> None:
    parts = read_parts(tiny_config(tie_embeddings=True))
    head = part(parts, "head")
    assert (head.parameters, head.active) == (0, 0)
    assert head.multiply_adds() == 320 * 48
    assert head.weight_bytes("bfloat16") == 2 * 320 * 48
    assert part(parts, "embedding").multiply_adds() == 0


def test_layers_that_differ_are_not_folded() -> None:
    types = ("full", "full", "shared", "full", "shared")
    parts = read_parts(tiny_config(**SPARSE | {"model_type": "glm_moe_dsa", "indexer_types": types}))
    assert [(block.name, block.layers) for block in parts.blocks] == [
        ("dense", (0,)),
        ("moe", (1, 3)),
        ("moe2", (2, 4)),
    ]
    assert [each.kind for each in parts.blocks[2].parts].count("indexer") == 0
