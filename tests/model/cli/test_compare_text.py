"""The command `compare` on decision tables: text, JSON, gates, a repeat of the rollout, and bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from model.cli.main import main
from model.trace.file import save
from tests.traces import random_trace


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def write(path: Path, seed: int, share: float, number: int = 24) -> Path:
    """A table of documents of 12 tokens, 2 layers, 2 of 8 experts; `share` of the choices are replaced."""
    rng, other = np.random.default_rng(0), np.random.default_rng(seed)
    lines = []
    for name in range(number):
        rows = np.stack([[rng.permutation(8)[:2] for _ in range(2)] for _ in range(12)])
        moved = other.random(rows.shape[:2]) < share
        rows[moved] = 7 - rows[moved]
        line = {"id": f"d{name}", "token_ids": list(range(12)), "num_prompt": 4, "routed_experts": rows.tolist()}
        lines.append(json.dumps(line | {"logprobs": [-1.0 - share] * 8}))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    sides = {"rollout": (0, 0.0), "repeat": (1, 0.02), "trainer": (2, 0.3)}
    return {name: write(folder / f"{name}.jsonl", *each) for name, each in sides.items()}


def test_figures_of_two_tables_in_words(tables: dict[str, Path]) -> None:
    result = run(tables["rollout"], tables["trainer"], "--repeat", tables["repeat"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "A  a model that was not named, imported by unknown, unknown, 288 tokens"
    assert "24 documents; A is the rollout, B the trainer." in lines
    rows = {line.split()[0]: line for line in lines if line}
    assert rows["split-share"].endswith("beyond noise")
    assert rows["k1"].split()[1] == "0.3"
    assert rows["ratio-share"].split()[1] == "0"


def test_json_holds_the_same_figures(tables: dict[str, Path]) -> None:
    result = run(tables["rollout"], tables["trainer"], "--json", "--tau", "1.2")
    plain = json.loads(result.stdout)
    figures = {row["figure"]: row["value"] for row in plain["rollout"]["figures"]}
    assert (plain["rollout"]["documents"], plain["rollout"]["tau"], plain["rollout"]["noise"]) == (24, 1.2, None)
    assert figures["ratio-share"] == plain["measures"]["ratio-share"] == 1
    assert figures["split-share"] == plain["measures"]["split-share"]


def test_json_of_one_document_has_the_same_ratio_in_both_places(tmp_path: Path) -> None:
    sides = write(tmp_path / "a.jsonl", 0, 0.0, number=1), write(tmp_path / "b.jsonl", 2, 0.3, number=1)
    plain = json.loads(run(*sides, "--json", "--tau", "1.2").stdout)
    figures = {row["figure"]: row["value"] for row in plain["rollout"]["figures"]}
    assert figures["ratio-share"] == plain["measures"]["ratio-share"] == 1


@pytest.mark.parametrize(
    ("limits", "status"), [(["split-share=1", "k1=0.31"], 0), (["split-tokens=0.1"], 1), (["k1=0.29"], 1)]
)
def test_thresholds_hold_over_all_documents(tables: dict[str, Path], limits: list[str], status: int) -> None:
    options = [part for limit in limits for part in ("--fail-above", limit)]
    result = run(tables["rollout"], tables["trainer"], *options)
    assert result.exit_code == status, result.output
    assert bool(result.stderr) == bool(status)


def test_a_single_comparison_has_the_figures_too(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        save(random_trace(seed), tmp_path / name)
    result = run(tmp_path / "a", tmp_path / "b", "--ids", "1")
    assert result.exit_code == 2  # two files need no prompt
    save(random_trace(0), tmp_path / "b")
    result = run(tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 0, result.output
    assert "No intervals: they are over documents, and need at least 20." in result.stdout.splitlines()
    assert json.loads(run(tmp_path / "a", tmp_path / "b", "--json").stdout)["rollout"]["documents"] == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"token_ids": [9] * 12}, "document d0 has other tokens from token 0 on"),
        ({"id": "other"}, "only one of the tables has the document d0"),
        (
            {"routed_experts": [[[0, 0], [0, 0]]] * 12},
            "bad.jsonl: line 1: routed_experts holds one expert in every slot",
        ),
        ({"logprob_temperature": 0.6}, "different temperatures, 0.6 and 1; record both at one"),
    ],
)
def test_unusable_tables_end_with_one_line(
    tables: dict[str, Path], tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    first, *others = tables["trainer"].read_text().splitlines()
    bad = tmp_path / "bad.jsonl"
    bad.write_text("\n".join([json.dumps(json.loads(first) | change), *others]))
    result = run(tables["rollout"], bad)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
