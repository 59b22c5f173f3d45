"""The table of stages against the files that there are, and commands that can be typed."""

import shlex
from pathlib import Path

from click.testing import CliRunner

from model.cli.train import train_command
from model.network.config import ModelConfig
from model.train.config import load_config
from model.train.log import LOG, read_log
from model.train.stages import CONFIGS, STAGES
from tests.model.train.corpora import write_tiny_shards
from tests.model.train.pretraining.test_initial_model import saved


def test_table_names_every_shipped_file_once() -> None:
    assert sorted(stage.config for stage in STAGES) == sorted(path.stem for path in CONFIGS.glob("*.toml"))


def test_every_stage_begins_with_what_an_earlier_one_left() -> None:
    """A stage that resumes the state of its run names the model that the run began with."""
    began: dict[str, str] = {}
    for stage in STAGES:
        named, _ = load_config(CONFIGS / f"{stage.config}.toml")
        begins = began.setdefault(stage.run, stage.start)
        assert isinstance(named, ModelConfig) == (not begins), stage
        assert isinstance(named, ModelConfig) or named.start == f"runs/{begins}/model", stage
        assert stage.start in ("", stage.run) or stage.start in began, stage
        assert stage.start == stage.run or begins == stage.start, stage


def test_list_prints_commands_that_are_understood() -> None:
    result = CliRunner().invoke(train_command, ["--list"])
    assert result.exit_code == 0
    for stage in STAGES:
        assert stage.command in result.output
        words = shlex.split(stage.command)
        assert words[:4] == ["python", "-m", "model", "train"]
        options = {option for parameter in train_command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options
        assert (CONFIGS.parents[2] / words[4]).is_file()


TRAIN = """
[train]
total_steps = 2
warmup_steps = 0
decay_steps = 0
learning_rate = 1e-3
sequence_length = 16
batch_size = 2
bias_speed = 0.0
threads = 1
device = "cpu"
dtype = "float32"
"""
HEADS = {"extend": 'start = "mini-v3"\nfactor = 4', "indexer": 'start = "x"\nheads = 4\nhead_dim = 12\ntop_k = 5',
         "continue": 'start = "y"'}  # fmt: skip


def test_stages_run_one_after_the_other_from_v3_to_v32(tmp_path: Path) -> None:
    """Extension, indexers, selection on: each begins with what the one before left, whatever its file names."""
    shards, last = write_tiny_shards(tmp_path), saved(tmp_path / "v3")
    (last / "tokenizer.json").write_bytes((shards / "tokenizer.json").read_bytes())
    for name, head in HEADS.items():
        path = tmp_path / f"{name}.toml"
        train = TRAIN if name == "extend" else TRAIN.replace("sequence_length = 16", "sequence_length = 40")
        path.write_text(f"[{name}]\n{head}\n{train}")
        arguments = [str(path), "--corpus", str(shards), "--start", str(last), "--out", str(tmp_path / name)]
        result = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        last = tmp_path / name / "model"
    (line, _) = read_log(tmp_path / "continue" / LOG)
    assert line["indexer_loss"] > 0
    assert line["tokens"] == 80


def test_start_is_refused_where_weights_are_drawn(tmp_path: Path) -> None:
    arguments = [str(CONFIGS / "mini-v3.toml"), "--corpus", str(tmp_path), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(train_command, [*arguments, "--start", "mini-v3"])
    assert result.exit_code == 2
    assert "starts from random weights" in result.output
