"""The command `plan`: its text, its file, and bad input. `tests/model/sweep/test_plan_check.py` runs the check."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from model.cli.main import main
from model.cli.plan_text import lines_of_check
from model.sweep.plan_report import report
from tests.model.atlas.test_plan import cells, counts
from tests.model.sweep.test_plan_report import LAYERS, VARIANTS
from tests.sweeps import write_sweep


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "sweep", counts(), 2, counts=cells())


def test_the_plan_in_words(sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    result = run(sweep, "--keep", 0.67, "--out", out)
    assert result.exit_code == 2
    assert "at most" not in result.stderr  # 0.67 of 3 experts cuts none, which is no plan
    result = run(sweep, "--keep", 0.66, "--out", out, "--easy-ep-mask", tmp_path / "mask.json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "hand-made, sweep of 1 documents, 4 tokens"
    assert lines[1] == "cuts 1 of 3 experts in each of 1 layers by the rule reap; at most 1 can be cut"
    assert "keeps 0.667 instead of 0.66: whole experts, equally many in each group" in lines
    assert next(line for line in lines if line.startswith("ean ")).split()[1] == "0"
    assert "  L1 E2: 2 tokens in 2 documents" in lines
    assert lines[-1] == f"written to {out}"
    assert json.loads(out.read_text())["layers"][0]["cut"] == [2]
    assert json.loads((tmp_path / "mask.json").read_text()) == [[1, 1, 0]]


def test_the_check_in_words() -> None:
    lines = lines_of_check(report(VARIANTS, LAYERS, {"same_weights": True}))
    assert "the plan harms less than 1 of 2 random plans of its size" in lines
    assert "on average they harm +0.2188 more than the plan (+0.2037 to +0.2338)" in lines
    assert "random 2, the closest, harms -0.0625 more than the plan (-0.0925 to -0.0325)" in lines
    assert "decisions that differ by layer: L3 0.0%, L4 40.0%" in lines


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--keep", "0.1"], "cuts 2 of 3 experts: a token could not select 2 any more; at most 1 can be cut"),
        (["--keep", "2"], "the share to keep is 2; it must be above 0 and at most 1"),
        (["--keep", "1"], "a share of 1 cuts no expert; keep less"),
        (
            ["--keep", "0.5", "--rule", "easy-ep"],
            "the rule easy-ep cannot be used: the sweep holds no similarity of the stream",
        ),
        (["--keep", "0.5", "--check", "mini-v3"], "--check needs --texts"),
        (
            ["--keep", "0.5", "--check", "absent", "--texts", "absent"],
            "absent is neither a folder nor an embedded model",
        ),
        (["--keep", "0.5", "--check", "mini-v3", "--texts", "absent"], "absent does not exist"),
        (["--keep", "0.5", "--easy-ep-mask", "absent/mask"], "the folder absent does not exist; make it first"),
    ],
)
def test_unusable_input_ends_with_one_line(sweep: Path, tmp_path: Path, options: list[str], complaint: str) -> None:
    result = run(sweep, "--out", tmp_path / "plan.json", *options)
    assert result.exit_code == 2, result.output
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    assert complaint in line


def test_a_folder_that_is_no_sweep_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path, "--keep", 0.5, "--out", tmp_path / "plan.json")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "is not the folder of a sweep" in result.stderr
    write_sweep(tmp_path, np.ones((1, 1, 4), int), 2)
    assert run(tmp_path, "--keep", 0.5, "--out", tmp_path / "plan.json").exit_code == 2  # ids alone: no REAP
    assert run(tmp_path, "--keep", 0.5, "--out", tmp_path / "plan.json", "--rule", "frequency").exit_code == 0
