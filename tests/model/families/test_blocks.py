from pathlib import Path

import pytest
import torch
from accelerate import disk_offload
from torch import Tensor
from transformers import AutoModelForCausalLM

from model.families.blocks import structure_of
from model.families.seam import instrument
from model.families.tape import Tape
from tests.families import EXPERTS, VOCAB, WIDTH, Watched, build, config_of, watched

WEIGHT, BIAS = (EXPERTS, WIDTH), (EXPERTS,)


@pytest.mark.parametrize(
    ("model_type", "shapes"),
    [
        ("qwen3_moe", {"gate.weight": WEIGHT}),
        ("deepseek_v3", {"gate.weight": WEIGHT, "gate.e_score_correction_bias": BIAS}),
        ("gpt_oss", {"router.weight": WEIGHT, "router.bias": BIAS}),
        ("afmoe", {"router.gate.weight": WEIGHT, "expert_bias": BIAS}),
        ("ernie4_5_moe", {"gate.weight": WEIGHT, "gate.moe_statics.e_score_correction_bias": (1, EXPERTS)}),
        ("longcat_flash", {"router.classifier.weight": (11, WIDTH), "router.e_score_correction_bias": (11,)}),
        ("llama4_text", {"router.weight": WEIGHT}),
    ],
)
def test_tensors_of_the_router(model_type: str, shapes: dict[str, tuple[int, ...]]) -> None:
    block = list(watched(model_type).seam.blocks.values())[-1]
    assert {name: tuple(tensor.shape) for name, tensor in block.tensors().items()} == shapes
    for name, tensor in block.tensors().items():
        assert torch.equal(tensor, block.module.state_dict()[name])
        assert not tensor.requires_grad


def test_a_block_that_is_a_layer_has_the_factors_of_its_experts() -> None:
    block = next(iter(watched("gemma4_text").seam.blocks.values()))
    tensors = block.tensors()
    assert tensors["router.per_expert_scale"].shape == BIAS
    assert tensors["router.proj.weight"].shape == WEIGHT
    assert "self_attn.q_proj.weight" not in tensors


def test_only_hash_layers_have_a_table() -> None:
    tables = [block.hash_table() for block in watched("deepseek_v4").seam.blocks.values()]
    assert [None if table is None else tuple(table.shape) for table in tables] == [(VOCAB, 3), None, None, None]
    model, tape, tokens = watched("deepseek_v4"), Tape(), [5, 9, 200]
    model.logits(tokens, tape)
    first = next(iter(tape.take().routing.values()))
    assert torch.equal(first.ids_TK, tables[0][tokens])


@pytest.mark.parametrize("model_type", ["afmoe", "ernie4_5_moe", "laguna", "gemma4_text", "deepseek_v4"])
def test_an_offloaded_model_has_the_same_tensors_and_routing(model_type: str, tmp_path: Path) -> None:
    resident, model = watched(model_type), build(model_type)
    disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
    offloaded, tapes = Watched(model, instrument(model)), (Tape(), Tape())
    assert torch.equal(*(one.logits([3, 4, 5], tape) for one, tape in zip((resident, offloaded), tapes, strict=True)))
    expected, taken = (tape.take().routing for tape in tapes)
    assert expected.keys() == taken.keys()
    for path, block in offloaded.seam.blocks.items():
        assert all(map(torch.equal, taken[path], expected[path]))
        assert_same(block.tensors(), resident.seam.blocks[path].tensors())
        table, resident_table = block.hash_table(), resident.seam.blocks[path].hash_table()
        assert table is resident_table is None or torch.equal(table, resident_table)


def assert_same(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_a_model_on_the_meta_device_has_the_same_structure() -> None:
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config_of("jamba"))
    found, expected = structure_of(empty), watched("jamba").seam
    assert list(found.blocks) == list(expected.blocks) == ["model.layers.1.feed_forward", "model.layers.3.feed_forward"]
    assert found.layers == expected.layers == tuple(f"model.layers.{layer}" for layer in range(4))
    assert found.attention == expected.attention == {"model.layers.1.self_attn": 1, "model.layers.3.self_attn": 3}


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [("qwen3_moe", (8, 8, None)), ("dbrx", (8, 8, None)), ("longcat_flash", (8, 11, 8)), ("zaya", (8, 8, 8))],
)
def test_sizes(model_type: str, sizes: tuple[int, int, int | None]) -> None:
    model = watched(model_type)
    model.logits([3, 4, 5], Tape())
    for block in model.seam.blocks.values():
        assert (block.num_computing, block.slots, block.idle_from) == sizes
