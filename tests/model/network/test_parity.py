"""Our network against transformers' DeepSeek V2, V3, V3.2 and GLM, in fp32, on the same random checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from model.checkpoint.weights import save_model
from model.network.layout import lay_out_for_decoding
from model.network.transformer import Transformer
from tests.parity import (
    LARGEST_LOGIT,
    VARIANTS,
    Observed,
    Reference,
    compare,
    example_ids,
    load_ours,
    make_reference,
    observe_ours,
    observe_reference,
    save_reference,
)

LOGIT_TOLERANCE = 1e-4
PART_TOLERANCE = 2e-5
WAYS = {"prefill": None, "token by token": (1,), "prefill, then token by token": (31, 1), "in pieces": (13, 9)}


@pytest.fixture(scope="module", params=VARIANTS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Reference, Transformer, Observed]:
    folder = tmp_path_factory.mktemp("reference")
    reference = make_reference(request.param)
    save_reference(reference, folder, request.param)
    assert len(list(folder.glob("*.safetensors"))) > 5 or request.param != "sharded"
    return reference, load_ours(folder), observe_reference(reference, example_ids())


@pytest.mark.parametrize("sizes", WAYS.values(), ids=WAYS.keys())
def test_agrees_with_transformers(pair: tuple[Reference, Transformer, Observed], sizes: tuple[int, ...] | None) -> None:
    reference, ours, expected = pair
    if sizes is not None:
        expected = observe_reference(reference, example_ids(), sizes)
    figures = compare(reference, expected, observe_ours(ours, example_ids(), sizes))
    assert figures.logits <= LOGIT_TOLERANCE
    assert figures.scores <= PART_TOLERANCE
    assert figures.weights <= PART_TOLERANCE
    assert figures.attention is not None
    assert figures.attention <= PART_TOLERANCE
    assert figures.ids_differ == 0
    assert figures.near_ties < 5
    assert figures.keys_differ == 0


def test_agrees_in_the_memory_layout_that_the_engine_uses(
    pair: tuple[Reference, Transformer, Observed], tmp_path: Path
) -> None:
    reference, ours, _ = pair
    save_model(ours, tmp_path / "copy", torch.float32)
    sizes = (31, 1)
    expected = observe_reference(reference, example_ids(), sizes)
    laid_out = lay_out_for_decoding(load_ours(tmp_path / "copy"))
    figures = compare(reference, expected, observe_ours(laid_out, example_ids(), sizes))
    assert figures.logits <= LOGIT_TOLERANCE
    assert max(figures.scores, figures.weights) <= PART_TOLERANCE
    assert figures.ids_differ == 0


def test_checkpoint_exercises_what_can_go_wrong(
    pair: tuple[Reference, Transformer, Observed],
) -> None:
    reference, ours, expected = pair
    assert abs(float(expected.logits_TV.abs().max()) - LARGEST_LOGIT) < 1e-3
    for block in reference.model.layers[1:]:
        if ours.config.has_selection_bias:
            bias_E = block.mlp.gate.e_score_correction_bias
            assert bias_E.min() < -0.2
            assert bias_E.max() > 0
        assert block.self_attn.kv_a_layernorm.weight.std() > 0.1
    biggest_share = max(float(attention[:, 20:].max()) for attention in expected.attention.values())
    assert biggest_share > 0.3  # attention is not flat
    for kept_TS in expected.kept.values():
        assert kept_TS[-1].sum() < 20  # keys are left out
        assert not torch.equal(kept_TS[-1].nonzero()[:, 0], torch.arange(40 - int(kept_TS[-1].sum()), 40))


def test_every_parameter_of_ours_is_random(pair: tuple[Reference, Transformer, Observed]) -> None:
    _, ours, _ = pair
    state = ours.state_dict()
    if not ours.config.has_selection_bias:
        state = {name: tensor for name, tensor in state.items() if not name.endswith("expert_bias")}
    assert all(float(tensor.std()) > 0.01 for tensor in state.values())


def test_transformers_reads_what_we_write(pair: tuple[Reference, Transformer, Observed], tmp_path: Path) -> None:
    _, ours, _ = pair
    save_model(ours, tmp_path / "written", torch.float32, max_shard_bytes=50_000)
    result: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path / "written", attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    loaded, report = result
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected = observe_reference(loaded.eval(), example_ids())
    assert compare(loaded, expected, observe_ours(ours, example_ids())).logits <= LOGIT_TOLERANCE
