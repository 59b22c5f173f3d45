"""Preference alignment: the loss by hand, pairs kept together, and a model that learns to prefer."""

import gzip
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import load_model
from model.cli.train import train_command
from model.train.data.corpus import CorpusError
from model.train.post_training.pairs import IGNORED, Batch, Framing
from model.train.post_training.preference import Choice, Choices, preference_loss, read_choices
from model.train.post_training.tuning import MEASURED, response_logprobs
from tests.model.train.corpora import write_rows, write_tuning_folder

CHOICES = [
    Choice(f"{a} plus {b}?", str(a + b), str(a + b + 3), "odd" if a % 2 else "even") for a in range(4) for b in range(4)
]
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
dtype = "float32"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tuning_folder(
        tmp_path, [choice._asdict() for choice in CHOICES], [" ".join(choice) for choice in CHOICES]
    )


def choices(folder: Path, given: list[Choice] = CHOICES) -> Choices:
    return Choices(given, Framing(Tokenizer.load(folder / "start")), 24)


def test_loss_by_hand() -> None:
    """Gains 1 and -1 with beta 0.5: a margin of 1, and a second pair with none."""
    now, before = torch.tensor([-2.0, -5.0, -4.0, -5.0]), torch.tensor([-3.0, -5.0, -3.0, -5.0])
    loss, gained = preference_loss(now, before, beta=0.5)
    expected = (math.log(1 + math.exp(-1)) + math.log(2)) / 2
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    assert gained.tolist() == [True, False]


def test_log_probability_is_of_the_response_alone(folder: Path) -> None:
    model, rows = load_model(folder / "start", "cpu", torch.float32), choices(folder).batch(0, 0, 3)
    logits = model(rows.ids_BT).log_softmax(-1)
    found = response_logprobs(model, rows)
    for row in range(6):
        for at, goal in enumerate(rows.targets_BT[row].tolist()):
            wanted = 0.0 if goal == IGNORED else float(logits[row, at, goal])
            assert float(found[row, at]) == pytest.approx(wanted, rel=1e-4)


def texts_of(folder: Path, rows: Batch) -> list[str]:
    """Prompt and response of each row."""
    token = Tokenizer.load(folder / "start")
    return [token.decode(ids).decode() for ids in rows.ids_BT.tolist()]


def test_rows_are_chosen_first_and_of_the_same_prompts(folder: Path) -> None:
    texts = texts_of(folder, choices(folder).rows(np.array([0, 5])))
    first, second = CHOICES[0], CHOICES[5]
    assert texts == [first.prompt + first.chosen, second.prompt + second.chosen,
                     first.prompt + first.rejected, second.prompt + second.rejected]  # fmt: skip


def test_share_of_preferred_ones_is_by_kind(folder: Path) -> None:
    """A score that is higher for right sums where the first number is even, and for wrong ones where it is odd."""

    def score(rows: Batch) -> torch.Tensor:
        numbers = [[int(number) for number in re.findall(r"\d+", text)] for text in texts_of(folder, rows)]
        return torch.tensor([float((a + b == said) == (a % 2 == 0)) for a, b, said in numbers])

    found = choices(folder, CHOICES[:7]).preferred(score)
    assert {kind: (one["right"], one["of"]) for kind, one in found.items()} == {
        "all": (4, 7), "even": (4, 4), "odd": (0, 3)
    }  # fmt: skip


def test_pair_of_which_one_response_does_not_fit_is_left_out(folder: Path) -> None:
    fitting = choices(folder, [*CHOICES, Choice("why?", "so", "word " * 60, "long")])
    assert fitting.kinds == [choice.kind for choice in CHOICES]
    with pytest.raises(CorpusError, match="no pair of responses fits"):
        choices(folder, [Choice("why?", "so", "word " * 60, "long")])


def test_a_run_ends_in_a_model_that_prefers_what_was_chosen(folder: Path) -> None:
    (folder / "config.toml").write_text(CONFIG.format(start=folder / "start"))
    arguments = [str(folder / "config.toml"), "--corpus", str(folder), "--out", str(folder / "run")]
    write_rows(folder / "asked" / "heldout.jsonl.gz", [
        {"prompt": choice.prompt, "response": choice.chosen, "kind": "arithmetic"} for choice in CHOICES
    ])  # fmt: skip
    arguments += ["--heldout", str(folder / "asked")]
    result = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    measured = json.loads((folder / "run" / MEASURED).read_text())
    before, after = (measured[when]["preferred"]["all"] for when in ("before", "after"))
    assert before["of"] == after["of"] == len(CHOICES)
    assert after["right"] > before["right"]
    assert measured["after"]["answers"]["arithmetic"]["of"] == len(CHOICES)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"{}\n", mtime=0)], ids=["no gzip", "no pair"])
def test_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.jsonl.gz").write_bytes(content)
    with pytest.raises(CorpusError, match="holds no prompts"):
        read_choices(tmp_path / "train.jsonl.gz")
