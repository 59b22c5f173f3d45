"""Indexers learn the attention of a frozen model: the worked loss, what may change, and a run from a TOML file."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.weights import load_model, save_model
from model.cli.train import train_command
from model.train.config import IndexerConfig, load_config
from model.train.data.windows import Windows
from model.train.log import LOG, read_log
from model.train.losses import indexer_loss
from model.train.minimise import minimise
from model.train.parts.indexer_warm_up import add_indexers, warm_up_loss, with_top_k
from model.train.tapes import IndexerTape
from tests.model.train.corpora import tokenised_corpus
from tests.models import random_model, tiny_config

CONFIG = """
[indexer]
start = "{start}"
heads = 4
head_dim = 12
top_k = 5

[train]
total_steps = 12
warmup_steps = 1
decay_steps = 2
learning_rate = 1e-2
weight_decay = 0.0
sequence_length = 16
batch_size = 2
bias_speed = 0.0
threads = 1
"""


def test_worked_loss() -> None:
    """Heads [.5, .3, .2] and [.1, .1, .8] give [.3, .2, .5]; scores [1, 0, 2]; then over the selected keys alone."""
    scores, target = torch.tensor([[[1.0, 0.0, 2.0]]]), torch.tensor([[[0.3, 0.2, 0.5]]])
    assert float(indexer_loss(scores, target)) == pytest.approx(0.0779529, abs=1e-6)
    selected = torch.tensor([[[1.0, -torch.inf, 2.0]]])
    assert float(indexer_loss(selected, torch.tensor([[[0.375, 0.0, 0.625]]]))) == pytest.approx(0.0266984, abs=1e-6)


def test_gradient_is_the_difference_of_the_distributions() -> None:
    scores = torch.tensor([[[1.0, 0.0, 2.0]]], requires_grad=True)
    target = torch.tensor([[[0.3, 0.2, 0.5]]])
    indexer_loss(scores, target).backward()
    torch.testing.assert_close(scores.grad, scores.detach().softmax(-1) - target)


def start_model(folder: Path, shards: Path) -> Path:
    save_model(random_model(tiny_config(max_positions=32)), folder, torch.float32)
    (folder / "tokenizer.json").write_bytes((shards / "tokenizer.json").read_bytes())
    return folder


def test_a_run_ends_in_a_sparse_model_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    shards = tokenised_corpus(tmp_path)
    start = start_model(tmp_path / "start", shards)
    (tmp_path / "config.toml").write_text(CONFIG.format(start=start))
    arguments = [str(tmp_path / "config.toml"), "--corpus", str(shards), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "indexers were trained for 12 steps" in result.output
    steps = list(read_log(tmp_path / "run" / LOG))
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert len(steps[0]["layer_loss"]) == 5
    made = load_model(tmp_path / "run" / "model", "cpu", torch.float32)
    assert (made.config.model_type, made.config.index_topk) == ("deepseek_v32", 5)
    assert (tmp_path / "run" / "model" / "tokenizer.json").is_file()


def test_only_the_indexers_change(tmp_path: Path) -> None:
    shards = tokenised_corpus(tmp_path)
    before = random_model(tiny_config(max_positions=32))
    model = add_indexers(before, heads=4, head_dim=12, seed=0)
    untrained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (tmp_path / "config.toml").write_text(CONFIG.format(start="x"))
    indexer, settings = load_config(tmp_path / "config.toml")
    assert isinstance(indexer, IndexerConfig)
    minimise(
        model,
        lambda batch, step: warm_up_loss(model, batch),
        settings,
        Windows(shards, settings.sequence_length, 0),
        tmp_path / "run",
    )
    for name, tensor in model.state_dict().items():
        changed = not torch.equal(tensor, untrained[name])
        assert changed == (".indexer." in name), name
    ids = torch.arange(5, 25)[None]
    with torch.inference_mode():
        assert torch.equal(model(ids), before(ids))  # every key is kept
        assert not torch.equal(with_top_k(model, 5)(ids), before(ids))


def test_tape_gives_a_loss_per_layer_with_a_gradient() -> None:
    model, tape = add_indexers(random_model(tiny_config()), 4, 12, 0), IndexerTape()
    model.hidden(torch.arange(5, 25)[None], tape=tape)
    assert len(tape.losses) == 5
    torch.stack(tape.losses).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (".indexer." in name), name
