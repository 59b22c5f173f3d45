"""What a probe finds out about a model: its axes, its attention, and what a user may not expect."""

import pytest
import torch

from model.checkpoint.header import CheckpointError
from model.families.probed import Probed, probe
from model.families.seam import instrument
from tests.families import build, watched


def probed(model_type: str) -> Probed:
    model, seam = watched(model_type)
    return probe(model, seam, model.config.get_text_config(), torch.device("cpu"))


def test_axes_of_a_model_with_dense_layers_and_groups() -> None:
    found = probed("deepseek_v3")
    assert (found.shape.moe_layers, found.shape.num_layers) == ((1, 2, 3), 4)
    assert (found.layout.num_experts, found.layout.top_k, found.layout.num_heads) == (8, 3, 4)
    assert (found.layout.num_groups, found.layout.num_kept_groups) == (2, 1)
    assert found.has_one_stream
    assert not found.notes


def test_two_blocks_of_experts_in_a_layer_are_counted_and_named() -> None:
    found = probed("jetmoe")
    assert found.shape.moe_layers == tuple(range(8))
    note = next(note for note in found.notes if "block of experts" in note)
    assert found.paths[1] in note


def test_blocks_are_in_the_order_in_which_they_run() -> None:
    assert "self_attention" in probed("jetmoe").paths[0]
    assert "self_attention" not in probed("jetmoe").paths[1]


def test_a_factor_after_the_experts_is_named() -> None:
    found = probed("minimax_m3_vl_text")
    assert found.facts.block_factor == 1.7
    assert any("multiplies the sum of its experts by 1.7" in note for note in found.notes)
    assert not any("multiplies" in note for note in probed("qwen3_moe").notes)


def test_layers_without_attention_weights_are_named() -> None:
    found = probed("jamba")
    assert sorted(found.attention) == [1, 3]
    assert any("in 2 of 4 layers" in note and "0, 2" in note for note in found.notes)


def test_deepseek_v4_has_a_table_streams_and_compressed_attention() -> None:
    found = probed("deepseek_v4")
    assert found.facts.table_layers == (0,)
    assert found.compressed == {1, 2}
    assert not found.has_one_stream
    assert "a residual norm is that of all 4 residual streams together" in found.notes


@pytest.mark.parametrize(("model_type", "factor"), [("qwen3_moe", 1.0), ("beam", 1.7), ("gemma4_text", None)])
def test_the_factor_after_the_experts_is_measured(model_type: str, factor: float | None) -> None:
    assert probed(model_type).facts.block_factor == factor


@pytest.mark.parametrize("model_type", ["mixtral", "inkling_text", "llama4_text"])
def test_windows_have_several_keys(model_type: str) -> None:
    assert probed(model_type).window == 8


def test_choices_that_compute_nothing_are_counted_with_the_experts() -> None:
    assert (probed("longcat_flash").shape.num_experts, probed("longcat_flash").shape.idle_from) == (11, 8)
    assert (probed("zaya").shape.num_experts, probed("zaya").shape.idle_from) == (9, 8)


def test_a_second_attention_of_a_layer_is_named() -> None:
    assert any("self_attn.1 and its like are not recorded" in note for note in probed("longcat_flash").notes)


def test_a_model_of_damaged_weights_says_only_that() -> None:
    model = build("mixtral")
    seam = instrument(model)
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.gate.weight")[2] = torch.nan
    notes = probe(model, seam, model.config, torch.device("cpu")).notes
    assert any("let Doctor audit the weights" in note for note in notes)
    assert not any("fed alone" in note or "attention is recorded" in note for note in notes)


def test_a_token_that_is_computed_otherwise_alone_is_noted() -> None:
    # This window is in the configuration, so that the cache keeps 8 keys, but not in the mask of the prompt.
    assert any("fed alone" in note for note in probed("qwen3_vl_moe").notes)
    assert not any("fed alone" in note for note in probed("qwen3_moe").notes)


def test_a_model_whose_experts_no_text_reaches_is_refused() -> None:
    model, seam = watched("qwen3_moe")
    with pytest.raises(CheckpointError, match="no layer of this model sends a text to experts"):
        probe(build("qwen3_moe"), seam, model.config, torch.device("cpu"))
