"""What a run begins with: a trained model's weights, and its context extended by YaRN, against transformers."""

import json
from pathlib import Path

import pytest
import torch
from transformers import DeepseekV3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention

from model.checkpoint.weights import load_model, save_model
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.train.config import ContinueConfig, ExtendConfig, TrainConfig, TrainConfigError
from model.train.log import LOG, read_log
from model.train.pretraining.initial_model import extended, initial_model
from model.train.pretraining.loop import train
from tests.model.train.corpora import write_tiny_shards
from tests.models import random_model, tiny_config

SPARSE = {"model_type": "deepseek_v32", "index_heads": 4, "index_head_dim": 12, "index_topk": 6}
FAMILIES = pytest.mark.parametrize("changes", [{}, {"has_mtp": True}, SPARSE], ids=["V3", "V3 with module", "V3.2"])


def saved(folder: Path, **changes: object) -> Path:
    shape = tiny_config(num_layers=3, tie_embeddings=True, max_positions=16, **changes)
    save_model(random_model(shape), folder, torch.float32)
    return folder


def settings(**changes: object) -> TrainConfig:
    values = dict(total_steps=2, warmup_steps=0, decay_steps=0, learning_rate=1e-3, sequence_length=48, batch_size=2,
                  bias_speed=0.01, threads=1, device="cpu", dtype="float32")  # fmt: skip
    return TrainConfig(**(values | changes))  # type: ignore[arg-type]


def test_released_context_extends_to_the_released_settings() -> None:
    """4,096 positions by a factor of 40, as in the released config.json."""
    shape = extended(tiny_config(max_positions=4096), ExtendConfig(start="", factor=40))
    assert shape.max_positions == 163840
    assert shape.to_json()["rope_scaling"] == {
        "type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    }


@FAMILIES
def test_extension_changes_frequencies_and_scale_as_transformers_does_and_no_weight(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    before = load_model(saved(tmp_path, **changes), "cpu", torch.float32)
    model = initial_model(ExtendConfig(start=str(tmp_path), factor=4, mscale=0.7, mscale_all_dim=0.5))
    for name, tensor in before.state_dict().items():
        wanted = tensor - tensor.mean() if name.endswith("expert_bias") else tensor
        assert model.state_dict()[name].equal(wanted), name
    save_model(model, tmp_path / "extended", torch.float32)
    theirs = DeepseekV3Config.from_pretrained(tmp_path / "extended")
    assert theirs.max_position_embeddings == 64
    frequencies, rotation_scale = ROPE_INIT_FUNCTIONS["yarn"](theirs, torch.device("cpu"))
    torch.testing.assert_close(model.rotary.frequencies, frequencies, rtol=1e-6, atol=0)
    assert not torch.allclose(model.rotary.frequencies, before.rotary.frequencies)
    assert model.rotary.scale == pytest.approx(rotation_scale)
    scale = model.block(1).attention.scale
    assert scale == pytest.approx(DeepseekV3Attention(theirs, 1).scaling)
    assert scale == pytest.approx(20**-0.5 * (0.05 * 1.3862943611 + 1) ** 2)


@FAMILIES
def test_extended_model_learns_on_long_windows_and_runs_a_long_prompt(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    shards, start = write_tiny_shards(tmp_path), saved(tmp_path / "model", **changes)
    extend = ExtendConfig(start=str(start), factor=4)
    trainer = train(extend, settings(total_steps=12), shards, tmp_path / "run")
    lines = list(read_log(tmp_path / "run" / LOG))
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5
    assert lines[0]["tokens"] == 96
    assert ("mtp_loss" in lines[0], "indexer_loss" in lines[0]) == ("has_mtp" in changes, changes == SPARSE)
    made = load_model(tmp_path / "run" / "model", "cpu", torch.float32)
    assert made.config == trainer.model.config
    published = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert published["max_position_embeddings"] == 64
    assert published["rope_scaling"]["original_max_position_embeddings"] == 16
    with torch.inference_mode():
        assert made(torch.arange(5, 65)[None]).isfinite().all()


def test_run_of_long_windows_is_resumed_with_its_context(tmp_path: Path) -> None:
    shards, start = write_tiny_shards(tmp_path), saved(tmp_path / "model")
    extend = ExtendConfig(start=str(start), factor=4)
    whole = train(extend, settings(), shards, tmp_path / "whole")
    train(extend, settings(total_steps=1), shards, tmp_path / "part")
    part = train(extend, settings(), shards, tmp_path / "part", resume=True)
    assert all(tensor.equal(part.model.state_dict()[name]) for name, tensor in whole.model.state_dict().items())


def test_second_extension_counts_from_the_first_context() -> None:
    once = extended(tiny_config(max_positions=16), ExtendConfig(start="", factor=4))
    twice = extended(once, ExtendConfig(start="", factor=8))
    assert twice.max_positions == 128
    assert twice.yarn is not None
    assert twice.yarn.original_max_positions == 16
    with pytest.raises(TrainConfigError, match="too small: the model already reads 64 positions"):
        extended(once, ExtendConfig(start="", factor=4))


def test_unusable_extensions_are_refused() -> None:
    with pytest.raises(TrainConfigError, match="above 1"):
        ExtendConfig(start="", factor=1)
    with pytest.raises(TrainConfigError, match="beta_fast"):
        ExtendConfig(start="", factor=2, beta_fast=1)
    with pytest.raises(TrainConfigError, match="times 16 positions is no whole number"):
        extended(tiny_config(max_positions=16), ExtendConfig(start="", factor=1.7))


def test_windows_beyond_the_context_are_refused(tmp_path: Path) -> None:
    shards, start = write_tiny_shards(tmp_path), saved(tmp_path / "model")
    with pytest.raises(TrainConfigError, match="sequence_length 48 exceeds the model's 16 positions"):
        train(ContinueConfig(start=str(start)), settings(), shards, tmp_path / "run")


def test_drawn_weights_depend_on_the_seed_alone() -> None:
    shape: ModelConfig = tiny_config(num_layers=2)
    first, second = initial_model(shape, 1), initial_model(shape, 1)
    assert isinstance(first, Transformer)
    assert all(tensor.equal(second.state_dict()[name]) for name, tensor in first.state_dict().items())
    assert not initial_model(shape, 2).embedding.weight.equal(first.embedding.weight)
