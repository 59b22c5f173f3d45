"""A multi-token-prediction module is added to a trained model: where it begins, what learns, and the folder written."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.files import ModelFolder
from model.checkpoint.weights import load_model, save_model
from model.cli.train import train_command
from model.network.transformer import Transformer
from model.train.config import MtpConfig, TrainConfig, load_config
from model.train.data.windows import Windows
from model.train.log import LOG, read_log
from model.train.minimise import minimise
from model.train.parts.prediction_module import balance, draft_loss, with_module
from tests.model.train.corpora import tokenised_corpus
from tests.models import random_model, tiny_config

CONFIG = """
[mtp]
start = "{start}"

[train]
total_steps = 16
warmup_steps = 1
decay_steps = 4
learning_rate = 1e-2
weight_decay = 0.0
sequence_length = 16
batch_size = 2
bias_speed = 0.01
threads = 1
"""


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return tokenised_corpus(tmp_path)


def settings_of(tmp_path: Path, start: str = "x") -> TrainConfig:
    (tmp_path / "config.toml").write_text(CONFIG.format(start=start))
    mtp, settings = load_config(tmp_path / "config.toml")
    assert isinstance(mtp, MtpConfig)
    return settings


def test_loss_is_the_mean_over_the_tokens_after_the_next_ones(tmp_path: Path) -> None:
    model = with_module(random_model(tiny_config()), True, 0)
    settings = dataclasses.replace(settings_of(tmp_path), bias_speed=0.0)
    batch = torch.randint(2, 300, (2, 17), generator=torch.Generator().manual_seed(1))
    loss, facts = draft_loss(model, settings, batch)
    inputs, following, goals = batch[:, :-2], batch[:, 1:-1], batch[:, 2:]
    with torch.no_grad():
        logits = model.eval().draft_logits(model.hidden(inputs), following)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), goals.flatten())
    assert facts["loss"] == pytest.approx(float(expected), abs=1e-4)
    assert float(loss.detach()) == pytest.approx(
        facts["loss"] + settings.balance_weight * facts["balance_loss"], abs=1e-5
    )
    assert sum(facts["load"]["5"]) == inputs.numel() * model.config.top_k


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_loss_is_added_up_in_fp32_where_products_are_bf16(tmp_path: Path) -> None:
    """Eight significant bits would leave steps of 0.03 at a loss of 6."""
    model = with_module(random_model(tiny_config()), True, 0)
    settings = dataclasses.replace(settings_of(tmp_path), bias_speed=0.0)
    batch = torch.randint(2, 300, (2, 17), generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        loss, facts = draft_loss(model, settings, batch)
    assert loss.dtype == torch.float32
    assert facts["loss"] != float(torch.tensor(facts["loss"]).bfloat16())


def test_module_begins_as_the_last_layer_on_the_sum_of_its_inputs() -> None:
    before = random_model(tiny_config())
    model = with_module(before, True, 0)
    assert model.mtp is not None
    last = before.block(4).state_dict()
    assert all(torch.equal(tensor, last[name]) for name, tensor in model.mtp.block.state_dict().items())
    assert torch.equal(model.mtp.norm.weight, before.norm.weight)
    one, other = torch.randn(2, 3, 48)
    assert torch.allclose(model.mtp.join(torch.cat([one, other], -1)), one + other, atol=1e-6)


def test_a_module_that_the_model_has_goes_on_learning() -> None:
    before = random_model(tiny_config(has_mtp=True))
    model = with_module(before, True, 0)
    assert all(torch.equal(tensor, before.state_dict()[name]) for name, tensor in model.state_dict().items())
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, _ in model.named_parameters() if name.startswith("mtp.")}


def test_only_the_module_learns_and_its_bias_moves(tmp_path: Path, shards: Path) -> None:
    model, settings = with_module(random_model(tiny_config(max_positions=32)), True, 0), settings_of(tmp_path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    minimise(
        model,
        lambda batch, step: draft_loss(model, settings, batch),
        settings,
        Windows(shards, settings.sequence_length, 0),
        tmp_path / "run",
        after_step=lambda facts, step: balance(model, settings, facts, step),
    )
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name.startswith("mtp.")}
    assert "mtp.block.ffn.router.expert_bias" in changed


def run(tmp_path: Path, shards: Path, start: Transformer) -> Path:
    folder = tmp_path / "start"
    save_model(start, folder, torch.float32)
    (folder / "tokenizer.json").write_bytes((shards / "tokenizer.json").read_bytes())
    settings_of(tmp_path, str(folder))
    arguments = [str(tmp_path / "config.toml"), "--corpus", str(shards), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "the module was trained for 16 steps" in result.output
    return tmp_path / "run"


def test_a_run_ends_in_a_model_with_the_module_in_a_file_of_its_own(tmp_path: Path, shards: Path) -> None:
    start = random_model(tiny_config(max_positions=32))
    out = run(tmp_path, shards, start)
    steps = list(read_log(out / LOG))
    assert sum(step["loss"] for step in steps[-4:]) < sum(step["loss"] for step in steps[:4])
    made = load_model(out / "model", "cpu", torch.float32)
    assert made.config.has_mtp
    rounded = {name: tensor.bfloat16().float() for name, tensor in start.state_dict().items() if "bias" not in name}
    assert all(torch.equal(made.state_dict()[name], tensor) for name, tensor in rounded.items())
    weight_map = json.loads((out / "model" / "model.safetensors.index.json").read_text())["weight_map"]
    of_module = {file for name, file in weight_map.items() if name.startswith("model.layers.5.")}
    of_model = {file for name, file in weight_map.items() if not name.startswith("model.layers.5.")}
    assert of_module == {"model-00002-of-00002.safetensors"}
    assert of_model == {"model-00001-of-00002.safetensors"}
    save_model(start, tmp_path / "alone", torch.bfloat16)
    with ModelFolder(tmp_path / "alone") as alone, ModelFolder(out / "model") as whole:
        assert set(alone.tensors) == {name for name in whole.tensors if not name.startswith("model.layers.5.")}
    own = (out / "model" / "model-00001-of-00002.safetensors").read_bytes()
    assert own == (tmp_path / "alone" / "model.safetensors").read_bytes()  # the model's own file stays as it was
