"""Places of stored tensors: layers, experts and routers are found by structure, whatever the tensors are called."""

import copy
import dataclasses

import pytest
import torch

from model.checkpoint.files import ModelFolder
from model.checkpoint.names import BIAS_KIND, EXPERT_KIND, ROUTER_KIND, Place
from model.families.places import places_of, structure
from model.families.published import read_published
from tests.families import EXPERTS, saved

# Family -> router, selection bias and a matrix of experts in layer 2 of its files, and that matrix's place.
CASES = {
    "qwen3_moe": ("mlp.gate.weight", "", "mlp.experts.5.up_proj.weight", Place(2, 5, "up_proj.weight", EXPERT_KIND)),
    "mixtral": (
        "block_sparse_moe.gate.weight", "",
        "block_sparse_moe.experts.5.w2.weight", Place(2, 5, "w2.weight", EXPERT_KIND),
    ),
    "gpt_oss": (
        "mlp.router.weight", "", "mlp.experts.down_proj", Place(2, None, "mlp.experts.down_proj", EXPERT_KIND, EXPERTS),
    ),
    "deepseek_v4": (
        "ffn.gate.weight", "ffn.gate.bias", "ffn.experts.5.w3.weight", Place(2, 5, "w3.weight", EXPERT_KIND),
    ),
    "lfm2_moe": (
        "feed_forward.gate.weight", "feed_forward.expert_bias",
        "feed_forward.experts.5.w1.weight", Place(2, 5, "w1.weight", EXPERT_KIND),
    ),
    "zaya": (
        "mlp.gate.router_mlp.out_proj.weight", "mlp.gate.balancing_biases",
        "mlp.experts.gate_up_proj", Place(2, None, "mlp.experts.gate_up_proj", EXPERT_KIND, EXPERTS),
    ),
}  # fmt: skip


def places(model_type: str) -> dict[str, Place]:
    with ModelFolder(saved(model_type)) as files:
        return places_of(files, structure(read_published(files)))


@pytest.mark.parametrize("model_type", CASES)
def test_router_bias_and_experts_are_found(model_type: str) -> None:
    router, bias, expert, place = CASES[model_type]
    found = places(model_type)
    in_layer = {name.partition("layers.2.")[2]: at for name, at in found.items() if at.layer == 2}
    assert [name for name, at in in_layer.items() if at.kind == ROUTER_KIND] == [router]
    assert [name for name, at in in_layer.items() if at.kind == BIAS_KIND] == [bias] * bool(bias)
    assert in_layer[expert] == place


def test_the_linear_bias_of_a_router_is_no_selection_bias_and_biases_of_experts_are_no_matrices() -> None:
    found = places("gpt_oss")
    assert found["model.layers.2.mlp.router.bias"] == Place(2, None, "mlp.router.bias")
    assert found["model.layers.2.mlp.experts.down_proj_bias"] == Place(
        2, None, "mlp.experts.down_proj_bias", "", EXPERTS
    )
    assert found["model.embed_tokens.weight"] == Place(None, None, "model.embed_tokens.weight")


def test_flat_weights_of_experts_are_divided() -> None:
    assert places("dbrx")["transformer.blocks.2.ffn.experts.mlp.w1"].stacked == EXPERTS


def test_shared_experts_as_wide_as_there_are_experts_are_no_router() -> None:
    with ModelFolder(saved("qwen2_moe")) as files:
        published = read_published(files)
        settings = copy.deepcopy(published.settings)
        settings.shared_expert_intermediate_size = EXPERTS
        with torch.device("meta"):
            model = published.model_class(settings)
        shared = "model.layers.2.mlp.shared_expert.up_proj.weight"
        files.tensors = dict(files.tensors) | {shared: dataclasses.replace(files.tensors[shared], shape=(EXPERTS, 64))}
        found = places_of(files, model)
    assert [name for name, at in found.items() if at.layer == 2 and at.kind == ROUTER_KIND] == [
        "model.layers.2.mlp.gate.weight"
    ]
