"""The reward model: its loss by hand, where it reads, and that it learns to tell responses apart."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.weights import load_model
from model.cli.train import train_command
from model.train.post_training.generate import Answer
from model.train.post_training.grpo import Group
from model.train.post_training.pairs import Batch, Pair, fill_up
from model.train.post_training.preference import Choice
from model.train.post_training.reward import RewardModel, best_of, reward_loss
from model.train.post_training.tuning import MEASURED
from tests.model.train.corpora import write_rows, write_tuning_folder

CHOICES = [Choice(f"{a} plus {b}?", str(a + b), str(a + b + 3), "odd") for a in range(4) for b in range(4)]
CONFIG = """
[reward]
start = "{start}"
answers = 3
new_tokens = 4

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
dtype = "float32"
store = "float32"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tuning_folder(
        tmp_path, [choice._asdict() for choice in CHOICES], [" ".join(choice) for choice in CHOICES]
    )


def test_loss_by_hand() -> None:
    """Differences 2 and -1."""
    loss, higher = reward_loss(torch.tensor([3.0, 0.0, 1.0, 1.0]))
    assert float(loss) == pytest.approx((math.log(1 + math.exp(-2)) + math.log(1 + math.e)) / 2, abs=1e-6)
    assert higher.tolist() == [True, False]


def test_score_is_read_at_the_last_token_of_the_response(folder: Path) -> None:
    scorer = RewardModel(load_model(folder / "start", "cpu", torch.float32), seed=3)
    rows = [([0, 5, 6], [9, 8, 7, 1]), ([0, 5], [9, 1])]
    with torch.no_grad():
        together = scorer(fill_up(rows))
        for score, (given, wanted) in zip(together, rows, strict=True):
            x = scorer.trunk.norm(scorer.trunk.hidden(torch.tensor([given + wanted[:-1]])))[0, -1]
            torch.testing.assert_close(score, x @ scorer.head, atol=1e-5, rtol=1e-5)


def test_best_of_takes_the_answer_that_scores_highest() -> None:
    answers = [Answer([token, 1], [0.0, 0.0]) for token in (3, 9, 5)]
    groups = [Group([0], answers, rewards) for rewards in ([0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0])]

    def scorer(batch: Batch) -> torch.Tensor:
        return batch.targets_BT[:, 0].float()  # the answer with token 9

    found = best_of(scorer, groups)  # type: ignore[arg-type]
    assert {name: one["right"] for name, one in found.items()} == {"first": 1, "best": 1, "any": 2}


def test_a_run_ends_in_a_model_that_tells_responses_apart(folder: Path) -> None:
    (folder / "config.toml").write_text(CONFIG.format(start=folder / "start"))
    pairs = [dataclasses.asdict(Pair(choice.prompt, choice.chosen, "arithmetic")) for choice in CHOICES]
    write_rows(folder / "asked" / "heldout.jsonl.gz", pairs)
    arguments = [str(folder / "config.toml"), "--corpus", str(folder), "--out", str(folder / "run")]
    arguments += ["--heldout", str(folder / "asked")]
    result = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    measured = json.loads((folder / "run" / MEASURED).read_text())
    assert measured["after"]["preferred"]["all"]["right"] > measured["before"]["preferred"]["all"]["right"]
    assert measured["after"]["best_of"]["first"] == measured["before"]["best_of"]["first"]
    assert measured["after"]["best_of"]["any"]["of"] == len(CHOICES)
    scorer = RewardModel.load(folder / "run" / "model")
    assert scorer.head.shape == (48,)
