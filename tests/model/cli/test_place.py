"""The command `place`: the file, the figures, and input that is refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from model.cli.main import main
from tests import engines
from tests.engines import as_json
from tests.model.atlas.placement.engine_readers import READERS
from tests.sweeps import write_sweep

CODE, PROSE = [0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05], [0.05, 0.05, 0.05, 0.05, 0.1, 0.1, 0.2, 0.4]
MODEL = {
    "name": "m", "config": {"num_hidden_layers": 4, "n_group": 2}, "layers": [1, 2], "num_experts": 8, "top_k": 1,
}  # fmt: skip


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    counts = np.concatenate([rng.multinomial(200, shares, size=(80, 2)) for shares in (CODE, PROSE)])
    labels = ["code"] * 80 + ["prose"] * 80
    return write_sweep(tmp_path / "sweep", counts, layers=[1, 2], domains=labels, manifest={"model": MODEL})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["place", *map(str, arguments)])


def refused(out: Path, *arguments: object) -> str:
    result = run(*arguments, "--out", out)
    assert result.exit_code == 2, result.output
    assert not out.exists()
    return result.output.strip().splitlines()[-1]


@pytest.mark.parametrize("engine", READERS)
def test_each_engine_gets_its_map(sweep: Path, tmp_path: Path, engine: str) -> None:
    out = tmp_path / "map.json"
    result = run(sweep, "--engine", engine, "--ranks", 4, "--redundant", 4, "--out", out)
    assert result.exit_code == 0, result.output
    assert READERS[engine](out.read_text(), (1, 2), 4, 8, 4).expert.sizes["place"] == 12
    for part in (
        "160 documents, 32,000 tokens",
        "the documents' own mix: code 50.0%, prose 50.0%",
        "fitted on 80 documents, a random half (seed 0); judged on the other 80",
        "4 ranks with 3 places each, for 8 experts and 4 copies in each of 2 layers",
        "20 stretches of the corpus",
        "16 documents at a time",
        "one domain served alone",
        "note: a sweep reads its texts as prompts, so the figures are those of prefill",
        f"written to {out}",
    ):
        assert part in result.output


def test_a_mix_is_fitted_and_another_label_is_warned_of(sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.json"
    common = (sweep, "--engine", "vllm", "--ranks", 4, "--redundant", 4, "--out", out)
    both = run(*common, "--by", "domain", "--mix", "code=3,prose=1")
    assert "mix: code 75.0%, prose 25.0%" in both.output
    table = [line.split() for line in both.output.splitlines() if line.startswith(("L1", "L2", "mean"))]
    assert [row[0] for row in table] == ["L1", "L2", "mean"]
    numbered, fit, held_out = map(float, table[2][1:])
    assert 0.95 < held_out <= fit
    assert numbered < 0.8
    assert "warning: this map suits its mix only. If prose alone is served, balancedness is 0." in both.output
    same, other = (run(*common, "--by", "domain", "--mix", "code=1,prose=1", *seed) for seed in ((), ("--seed", 1)))
    assert "(seed 0)" in same.output
    assert "(seed 1)" in other.output
    first = out.read_text()
    run(*common, "--by", "domain", "--mix", "code=1,prose=1", "--seed", 1)
    assert out.read_text() == first  # the same command gives the same file


def test_what_cannot_be_placed_is_one_line(sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.json"
    vllm = (sweep, "--engine", "vllm")
    few = write_sweep(tmp_path / "few", np.ones((59, 1, 8), int))
    history = tmp_path / ".coli_usage"
    history.write_bytes(engines.usage_history(np.ones((4, 16), int)))
    broken = tmp_path / "sweep.json"
    broken.write_text("{}")
    for arguments, message in (
        ((*vllm, "--ranks", 3), "8 do not divide evenly among 3 devices"),
        ((*vllm, "--ranks", 4, "--redundant", 2), "10 do not divide evenly among 4 devices"),
        ((*vllm, "--ranks", 4, "--redundant", -4), "4 places are fewer than the 8 experts"),
        ((*vllm, "--ranks", 0), "0 devices"),
        ((*vllm, "--ranks", 4, "--nodes", 3), "4 ranks do not divide evenly among 3 machines"),
        ((*vllm, "--ranks", 4, "--by", "domain"), "--by domain needs --mix with the weights that are served"),
        ((*vllm, "--ranks", 4, "--mix", "code=1"), "--mix needs --by"),
        ((*vllm, "--ranks", 4, "--by", "domain", "--mix", "code"), "'code' of the mix 'code' has no weight"),
        ((*vllm, "--ranks", 4, "--by", "domain", "--mix", "poems=1"), "0 documents have the domain 'poems'"),
        ((*vllm, "--ranks", 4, "--by", "source", "--mix", "a=1"), "no document of the sweep has a source"),
        ((*vllm, "--ranks", 4, "--model", "mini-v3"), "a sweep names its model itself"),
        ((few, "--engine", "vllm", "--ranks", 4), "the sweep has 59 documents; a placement needs at least 60"),
        ((few.parent, "--engine", "vllm", "--ranks", 4), "is not the folder of a sweep"),
        ((history, "--engine", "vllm", "--ranks", 4), f"name the model of {history} by --model"),
        ((broken, "--engine", "vllm", "--ranks", 4, "--model", "mini-v3"), "holds no counts of experts"),
        ((history, "--engine", "vllm", "--ranks", 4, "--model", "mini-v3"), "counts 16 experts in 5 layers"),
    ):
        assert message in refused(out, *arguments)
    other = refused(tmp_path / "map.txt", sweep, "--engine", "sglang", "--ranks", 4)
    assert "SGLang reads a map only from a file whose name ends in .json" in other
    assert "is a folder" in run(*vllm, "--ranks", 4, "--out", tmp_path).output


def test_counts_are_placed_without_intervals(tmp_path: Path) -> None:
    out, source, steps = tmp_path / "map.json", tmp_path / "counts.json", np.ones((50, 6, 32), int)
    steps[:, :, 0], steps[:, 0] = 9, 0
    source.write_bytes(as_json({"logical_count": steps.tolist()}))
    arguments = (source, "--engine", "sglang", "--ranks", 8, "--redundant", 8, "--model", "mini-v3", "--out", out)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "counts of 500 tokens, spread unknown (SGLang)" in result.output
    assert "fitted on the first 25 windows, judged on the later 25" in result.output
    assert " to " not in result.output.partition("in brackets")[0].partition("held out, mean")[2]
    assert "served alone" not in result.output
    assert len(json.loads(out.read_text())["physical_to_logical_map"]) == 6
    source.write_bytes(as_json({"logical_count": steps[0].tolist()}))
    assert "nothing is held out, so the figures flatter" in run(*arguments).output
