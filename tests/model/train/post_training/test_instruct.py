"""Instruction tuning: samples apart, the loss on responses alone, and a model that learns to answer."""

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import PreTrainedTokenizerFast

from model.checkpoint.chat_template import ASSISTANT, USER
from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import load_model
from model.cli.train import train_command
from model.train.config import TrainConfigError
from model.train.data.corpus import CorpusError
from model.train.log import LOG, read_log
from model.train.post_training.instruct import response_loss
from model.train.post_training.pairs import (
    IGNORED,
    POOL,
    Batch,
    Framing,
    Pair,
    Samples,
    fill_up,
    read_pairs,
    write_template,
)
from model.train.post_training.tuning import MEASURED
from tests.model.train.corpora import write_tuning_folder

PAIRS = [Pair(f"{a} plus {b}?", str(a + b), "arithmetic") for a in range(4) for b in range(4)]
CONFIG = """
[instruct]
start = "{start}"

[train]
look_steps = 25
store = "float32"
total_steps = 60
warmup_steps = 2
decay_steps = 10
learning_rate = 1e-2
weight_decay = 0.0
sequence_length = 24
batch_size = 8
bias_speed = 0.0
threads = 1
dtype = "float32"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random model with a small vocabulary, and pairs beside it."""
    return write_tuning_folder(
        tmp_path, [dataclasses.asdict(pair) for pair in PAIRS], [f"{pair.prompt} {pair.response}" for pair in PAIRS]
    )


def framing(folder: Path) -> Framing:
    return Framing(Tokenizer.load(folder / "start"))


def samples(folder: Path, pairs: list[Pair] = PAIRS, length: int = 24, **shares: float) -> Samples:
    return Samples(pairs, framing(folder), length, shares)


def test_sample_is_framed_and_only_its_response_counts(folder: Path) -> None:
    token = Tokenizer.load(folder / "start")
    batch = samples(folder, [PAIRS[0]]).batch(0, 0, 2)
    row, goals = batch.ids_BT[0].tolist(), batch.targets_BT[0].tolist()
    prompt, response = token.encode(PAIRS[0].prompt), token.encode(PAIRS[0].response)
    assert row == [token.bos_id, token.special_id(USER), *prompt, token.special_id(ASSISTANT), *response]
    assert goals == [IGNORED] * (len(prompt) + 2) + [*response, token.eos_id]


def test_published_template_frames_a_question_as_training_did(folder: Path, tmp_path: Path) -> None:
    write_template(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    published = PreTrainedTokenizerFast(tokenizer_file=str(folder / "start" / "tokenizer.json"), **settings)
    asked = [{"role": "user", "content": PAIRS[0].prompt}]
    text = published.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    assert published(text, add_special_tokens=False).input_ids == framing(folder).prompt_ids(PAIRS[0].prompt)


def test_shorter_samples_are_filled_up_and_see_nothing_of_others(folder: Path) -> None:
    pairs = [PAIRS[0], Pair("a much longer question than that?", "yes it is", "chat")]
    batch = fill_up(samples(folder, pairs, 60).rows)
    model = load_model(folder / "start", "cpu", torch.float32)
    together, facts = response_loss(model, batch)
    counts = batch.counted_BT.sum(1)
    assert counts[0] != counts[1]
    alone = [response_loss(model, Batch(batch.ids_BT[i : i + 1], batch.targets_BT[i : i + 1])) for i in (0, 1)]
    expected = (alone[0][0] * counts[0] + alone[1][0] * counts[1]) / counts.sum()
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-5)
    lengths = [len(given) + len(wanted) - 1 for given, wanted in samples(folder, pairs, 60).rows]
    assert batch.real_BT.sum(1).tolist() == lengths
    top_k = model.config.top_k
    assert [sum(load) for load in facts["load"].values()] == [sum(lengths) * top_k] * len(model.config.moe_layers)
    for layer, load in facts["load"].items():  # the rows' own choices, not those of what they are filled up with
        assert load == np.add(alone[0][1]["load"][layer], alone[1][1]["load"][layer]).tolist()


def test_steps_of_a_pool_are_about_equally_long_and_hold_every_draw(folder: Path) -> None:
    pairs = [Pair("why " * (1 + number % 9), "so", "chat") for number in range(90)]
    made = samples(folder, pairs, 30)
    batches = [made.batch(3, step, 4) for step in range(POOL)]
    widths = [batch.real_BT.sum(1).tolist() for batch in batches]
    assert max(max(row) - min(row) for row in widths) < max(map(max, widths)) - min(map(min, widths))
    assert torch.equal(batches[2].ids_BT, samples(folder, pairs, 30).batch(3, 2, 4).ids_BT)
    spread = sorted((min(row), max(row)) for row in widths)
    assert all(left[1] <= right[0] for left, right in zip(spread, spread[1:], strict=False))


def test_a_kind_gets_its_share_and_the_others_what_is_left(folder: Path) -> None:
    pairs = [*PAIRS[:2], *(Pair(f"why {i}?", "so", "chat") for i in range(6)), Pair("what?", "that", "story")]
    made = samples(folder, pairs, arithmetic=0.6)
    assert made.probabilities == pytest.approx([0.3] * 2 + [0.4 / 7] * 7)
    assert samples(folder, pairs).probabilities == pytest.approx([1 / 9] * 9)
    with pytest.raises(CorpusError, match="of the kind 'poem'; there are arithmetic, chat, story"):
        samples(folder, pairs, poem=0.5)


def test_loss_is_the_mean_over_counted_positions(folder: Path) -> None:
    model, batch = load_model(folder / "start", "cpu", torch.float32), samples(folder).batch(0, 0, 4)
    logits = model(batch.ids_BT)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten(), ignore_index=IGNORED)
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
    measured = json.loads((folder / "run" / MEASURED).read_text())
    before, after = (measured[when]["answers"]["arithmetic"] for when in ("before", "after"))
    assert before["of"] == after["of"] == len(PAIRS)
    assert after["right"] > before["right"] + 3
    assert after["low"] < after["right"] / after["of"] < after["high"]
    lines = list(read_log(folder / "run" / LOG))
    assert lines[0]["before"] == measured["before"]
    assert [line["step"] for line in lines if "answers" in line] == [25, 50, 60]
    assert lines[-1]["answers"] == measured["after"]["answers"]  # stored in fp32
    made = load_model(folder / "run" / "model", "cpu", torch.float32)
    start = load_model(folder / "start", "cpu", torch.float32)
    assert torch.equal(made.routers()[0].expert_bias, start.routers()[0].expert_bias)


def test_context_that_is_too_short_is_refused(folder: Path) -> None:
    (folder / "config.toml").write_text(CONFIG.format(start=folder / "start").replace("length = 24", "length = 99"))
    arguments = [str(folder / "config.toml"), "--corpus", str(folder), "--out", str(folder / "run")]
    with pytest.raises(TrainConfigError, match="sequence_length 99 exceeds the model's 32 positions"):
        CliRunner().invoke(train_command, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"{}\n", mtime=0), gzip.compress(b"no json\n", mtime=0)],
    ids=["no gzip", "no pair", "no json"],
)
def test_damaged_pairs_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.jsonl.gz").write_bytes(content)
    with pytest.raises(CorpusError, match="holds no pairs"):
        read_pairs(tmp_path / "train.jsonl.gz")
