"""Instruction tuning: samples apart, the loss on responses alone, and a model that learns to answer."""

import dataclasses
import gzip
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import load_model
from model.train.cli import train_command
from model.train.corpus import CorpusError
from model.train.instruct import ASSISTANT, IGNORED, USER, Pair, Samples, answer, exact_share, read_pairs, response_loss
from tests.model.train.corpora import write_tuning_folder

PAIRS = [Pair(f"{a} plus {b}?", str(a + b), "arithmetic") for a in range(4) for b in range(4)]
CONFIG = """
[instruct]
start = "{start}"

[train]
total_steps = 60
warmup_steps = 2
decay_steps = 10
learning_rate = 1e-2
weight_decay = 0.0
sequence_length = 24
batch_size = 8
bias_speed = 0.0
threads = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random model with a small vocabulary, and pairs beside it."""
    return write_tuning_folder(
        tmp_path, [dataclasses.asdict(pair) for pair in PAIRS], [f"{pair.prompt} {pair.response}" for pair in PAIRS]
    )


def samples(folder: Path, pairs: list[Pair] = PAIRS, length: int = 24) -> Samples:
    return Samples(pairs, Tokenizer.load(folder / "start"), length)


def test_sample_is_framed_and_only_its_response_counts(folder: Path) -> None:
    token = Tokenizer.load(folder / "start")
    batch = samples(folder, [PAIRS[0]]).batch(0, 0, 2)
    row, goals = batch.ids_BT[0].tolist(), batch.goals_BT[0].tolist()
    prompt, response = token.encode(PAIRS[0].prompt), token.encode(PAIRS[0].response)
    assert row == [token.bos_id, token.special_id(USER), *prompt, token.special_id(ASSISTANT), *response]
    assert goals == [IGNORED] * (len(prompt) + 2) + [*response, token.eos_id]


def test_shorter_samples_are_filled_up_and_see_nothing_of_others(folder: Path) -> None:
    pairs = [PAIRS[0], Pair("a much longer question than that?", "yes it is", "chat")]
    made = samples(folder, pairs, 60)
    batch = next(made.batch(0, step, 2) for step in range(50) if len(set(map(len, made.rows))) and
                 (made.batch(0, step, 2).goals_BT != IGNORED).sum(1).unique().numel() == 2)  # fmt: skip
    model = load_model(folder / "start", "cpu", torch.float32)
    together = response_loss(model, batch)[0]
    counts = (batch.goals_BT != IGNORED).sum(1)
    alone = [response_loss(model, type(batch)(batch.ids_BT[i : i + 1], batch.goals_BT[i : i + 1]))[0] for i in (0, 1)]
    expected = (alone[0] * counts[0] + alone[1] * counts[1]) / counts.sum()
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-5)


def test_loss_is_the_mean_over_counted_positions(folder: Path) -> None:
    model, batch = load_model(folder / "start", "cpu", torch.float32), samples(folder).batch(0, 0, 4)
    logits = model(batch.ids_BT)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.goals_BT.flatten(), ignore_index=IGNORED)
    assert float(response_loss(model, batch)[0]) == pytest.approx(float(expected), abs=1e-4)


def test_samples_that_do_not_fit_are_left_out(folder: Path) -> None:
    long = Pair("word " * 60, "no", "chat")
    assert len(samples(folder, [*PAIRS, long]).rows) == len(PAIRS)
    with pytest.raises(CorpusError, match="no sample fits"):
        samples(folder, [long])


def test_tuning_teaches_to_answer_and_leaves_the_biases(folder: Path) -> None:
    (folder / "config.toml").write_text(CONFIG.format(start=folder / "start"))
    arguments = [str(folder / "config.toml"), "--corpus", str(folder), "--out", str(folder / "run")]
    result = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    shares = json.loads((folder / "run" / "answers.json").read_text())
    assert shares["before"]["arithmetic"]["of"] == shares["after"]["arithmetic"]["of"] == len(PAIRS)
    assert shares["after"]["arithmetic"]["right"] > shares["before"]["arithmetic"]["right"] + 3
    made = load_model(folder / "run" / "model", "cpu", torch.float32)
    before = load_model(folder / "start", "cpu", torch.float32)
    assert torch.equal(made.routers()[0].expert_bias, before.routers()[0].expert_bias)
    assert exact_share(made, samples(folder), Tokenizer.load(folder / "start"), PAIRS)["arithmetic"]["of"] == len(PAIRS)


def test_answer_ends_where_there_is_no_room(folder: Path) -> None:
    model, token = load_model(folder / "start", "cpu", torch.float32), Tokenizer.load(folder / "start")
    assert answer(model, samples(folder), token, "word " * 60, 5) == ""
    assert len(answer(model, samples(folder), token, "1 plus 1?", 3)) <= 3 * max(map(len, map(token.piece, range(320))))


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"{}\n"), gzip.compress(b"no json\n")])
def test_damaged_pairs_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.jsonl.gz").write_bytes(content)
    with pytest.raises(CorpusError, match="holds no pairs"):
        read_pairs(tmp_path / "train.jsonl.gz")
