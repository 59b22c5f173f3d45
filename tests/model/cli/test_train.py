"""The commands from a corpus folder to a model that loads."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from model.checkpoint.weights import inspect
from model.cli.tokenize import tokenize_command
from model.cli.train import train_command
from model.train.config import TrainConfigError
from tests.model.train.corpora import write_corpus

CONFIG = """
[model]
vocab_size = 300
hidden_size = 32
num_layers = 2
num_dense_layers = 1
num_heads = 2
q_lora_rank = 16
kv_lora_rank = 16
nope_head_dim = 8
rope_head_dim = 8
value_head_dim = 8
dense_width = 32
expert_width = 16
num_experts = 8
num_shared_experts = 1
top_k = 2
num_groups = 4
num_kept_groups = 2
normalise_weights = true
routed_scale = 2.5
max_positions = 32

[train]
total_steps = 3
warmup_steps = 1
decay_steps = 1
learning_rate = 1e-3
sequence_length = 16
batch_size = 2
bias_speed = 0.01
threads = 1
device = "cpu"
"""


def invoke(command: object, *arguments: object) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.output


def test_from_corpus_to_model(tmp_path: Path) -> None:
    corpus, shards, run = write_corpus(tmp_path / "corpus"), tmp_path / "shards", tmp_path / "run"
    (tmp_path / "config.toml").write_text(CONFIG)
    output = invoke(tokenize_command, "--corpus", corpus, "--out", shards, "--vocab-size", 300)
    assert "tokens of 2 streams" in output
    output = invoke(train_command, tmp_path / "config.toml", "--corpus", shards, "--out", run)
    assert "3 of 3 steps done" in output
    assert inspect(run / "model").problems == ()
    again = invoke(train_command, tmp_path / "config.toml", "--corpus", shards, "--out", run, "--resume")
    assert "3 of 3 steps done" in again


def test_unusable_configuration_is_one_of_our_errors(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[model]")
    with pytest.raises(TrainConfigError):
        invoke(train_command, tmp_path / "config.toml", "--corpus", tmp_path, "--out", tmp_path / "run")


def test_corpus_has_no_default() -> None:
    for command in (tokenize_command, train_command):
        result = CliRunner().invoke(command, [])
        assert result.exit_code == 2
