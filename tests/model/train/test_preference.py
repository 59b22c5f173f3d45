"""Preference alignment: the loss by hand, pairs kept together, and a model that learns to prefer."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import load_model
from model.train.cli import train_command
from model.train.corpus import CorpusError
from model.train.instruct import IGNORED
from model.train.preference import (
    Choice,
    Choices,
    all_logprobs,
    preference_loss,
    preferred,
    read_choices,
    response_logprob,
)
from tests.model.train.corpora import write_tuning_folder

CHOICES = [Choice(f"{a} plus {b}?", str(a + b), str(a + b + 3)) for a in range(4) for b in range(4)]
CONFIG = """
[preference]
start = "{start}"
beta = 0.5

[train]
total_steps = 40
warmup_steps = 2
decay_steps = 10
learning_rate = 3e-3
weight_decay = 0.0
sequence_length = 24
batch_size = 8
bias_speed = 0.0
threads = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tuning_folder(
        tmp_path, [choice._asdict() for choice in CHOICES], [" ".join(choice) for choice in CHOICES]
    )


def choices(folder: Path, given: list[Choice] = CHOICES) -> Choices:
    return Choices(given, Tokenizer.load(folder / "start"), 24)


def test_loss_by_hand() -> None:
    """Gains 1 and -1 with beta 0.5: a margin of 1, and a second pair with none."""
    now, before = torch.tensor([-2.0, -5.0, -4.0, -5.0]), torch.tensor([-3.0, -5.0, -3.0, -5.0])
    loss, gained = preference_loss(now, before, beta=0.5)
    expected = (math.log(1 + math.exp(-1)) + math.log(2)) / 2
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    assert gained.tolist() == [True, False]


def test_log_probability_is_of_the_response_alone(folder: Path) -> None:
    model, (picks, rows) = load_model(folder / "start", "cpu", torch.float32), choices(folder).batch(0, 0, 3)
    logits = model(rows.ids_BT).log_softmax(-1)
    for row, found in enumerate(response_logprob(model, rows)):
        places = [at for at, goal in enumerate(rows.goals_BT[row].tolist()) if goal != IGNORED]
        wanted = sum(logits[row, at, rows.goals_BT[row, at]] for at in places)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)
    assert len(picks) == 3


def test_rows_are_chosen_first_and_of_the_same_prompts(folder: Path) -> None:
    token, made = Tokenizer.load(folder / "start"), choices(folder)
    rows = made.rows(np.array([0, 5]))
    texts = [token.decode([i for i in row if i > 4]).decode() for row in rows.ids_BT.tolist()]
    for place, pick in enumerate((0, 5)):
        assert CHOICES[pick].prompt in texts[place]
        assert CHOICES[pick].prompt in texts[place + 2]
    model = load_model(folder / "start", "cpu", torch.float32)
    together = response_logprob(model, rows).detach()
    torch.testing.assert_close(all_logprobs(model, made)[[0, 5]].T.flatten(), together, atol=1e-4, rtol=1e-5)


def test_pair_of_which_one_response_does_not_fit_is_left_out(folder: Path) -> None:
    assert choices(folder, [*CHOICES, Choice("why?", "so", "word " * 60)]).count == len(CHOICES)
    with pytest.raises(CorpusError, match="no pair of responses fits"):
        choices(folder, [Choice("why?", "so", "word " * 60)])


def test_a_run_ends_in_a_model_that_prefers_what_was_chosen(folder: Path) -> None:
    (folder / "config.toml").write_text(CONFIG.format(start=folder / "start"))
    arguments = [str(folder / "config.toml"), "--corpus", str(folder), "--out", str(folder / "run")]
    result = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    shares = json.loads((folder / "run" / "preferred.json").read_text())
    assert shares["after"]["preferred"] > shares["before"]["preferred"]
    made = load_model(folder / "run" / "model", "cpu", torch.float32)
    assert preferred(made, choices(folder))["of"] == len(CHOICES)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"{}\n")])
def test_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.jsonl.gz").write_bytes(content)
    with pytest.raises(CorpusError, match="holds no prompts"):
        read_choices(tmp_path / "train.jsonl.gz")
