import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from model.atlas.folder import open_sweep
from model.cli.main import main
from model.sweep.cluster import INSTALL
from model.sweep.parts import is_whole
from tests.sources import FakeSource


@pytest.fixture(autouse=True)
def source(monkeypatch: pytest.MonkeyPatch) -> FakeSource:
    source = FakeSource()
    for module in ("run", "estimate"):
        monkeypatch.setattr(f"model.sweep.{module}.open_source", lambda settings: source)
    return source


@pytest.fixture
def texts(tmp_path: Path) -> tuple[str, str]:
    rows = [{"body": f"a wolf and {number} sheep " * 9, "domain": "math"} for number in range(12)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"body": ""}])))
    (tmp_path / "b.jsonl").write_text(json.dumps(rows[0]))
    return str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")


def sweep(texts: tuple[str, ...], *options: str) -> Result:
    return CliRunner().invoke(main, ["sweep", "mini-v3", "--texts", *texts, "--key", "text=body", *options])


def test_a_sweep_reports_its_documents_failures_and_check(texts: tuple[str, str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    result = sweep(texts, "--out", out, "--label", "language=en", "--shard-tokens", "200", "--keep", "examples")
    assert result.exit_code == 0, result.output
    assert "13 documents in " in result.stdout
    assert "1 documents could not be routed; the first is document 12 of a.jsonl: its text is empty" in result.stdout
    assert "repeated in batches of 512 tokens, 0 of " in result.stdout
    assert "0 of " in result.stderr.splitlines()[0]
    assert " tokens a second, 0 s left" in result.stderr.splitlines()[-1]
    opened = open_sweep(out)
    assert set(opened.labels("language")) == {"en"}
    assert set(opened.labels("domain")) == {"math"}
    assert opened.examples is not None


def test_a_dry_run_writes_nothing(texts: tuple[str, str], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = sweep(texts, "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 files, 13 documents, ")
    assert "; 1 documents cannot be routed\nabout " in result.stdout
    assert " tokens a second (measured on " in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_part_is_routed_again_and_said(texts: tuple[str, str], tmp_path: Path) -> None:
    options = ("--out", str(tmp_path / "out"), "--shard-tokens", "200")
    assert sweep(texts, *options).exit_code == 0
    part = tmp_path / "out" / "parts" / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:400])
    result = sweep(texts, *options)
    assert "note: part-00001.parquet was not written to its end; its shard is routed again" in result.stderr
    assert is_whole(part)


def test_ctrl_c_says_what_is_kept(texts: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from model.sweep.sweeper import Sweeper

    route = Sweeper.route

    def interrupted(sweeper: Sweeper, shard: int) -> object:
        if shard:
            raise KeyboardInterrupt
        return route(sweeper, shard)

    monkeypatch.setattr(Sweeper, "route", interrupted)
    result = sweep(texts, "--out", str(tmp_path / "out"), "--shard-tokens", "200")
    assert result.exit_code == 130
    assert "shards are finished and kept; run the same command again to go on" in result.stderr


def test_unusable_input_is_one_line(texts: tuple[str, str], tmp_path: Path) -> None:
    for arguments, message in [
        (("--out", str(tmp_path / "o"), "--label", "topic=x"), "'topic=x' is not a name and a value such as"),
        ((), "give --out FOLDER, or --dry-run"),
        (("none.jsonl", "--out", str(tmp_path / "o")), "none.jsonl does not exist"),
        (("--key", "text=title", "--out", str(tmp_path / "o")), "no document can be routed"),
    ]:
        result = sweep(texts, *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
    assert not (tmp_path / "o").exists()


def test_the_first_line_says_where_documents_go(texts: tuple[str, str], tmp_path: Path) -> None:
    lines = sweep(
        texts, "--dry-run", "--engine", "http://127.0.0.1:1", "--ray-address", "head:6379"
    ).stderr.splitlines()
    assert lines[0] == "note: all documents are sent to the engine at http://127.0.0.1:1, and nowhere else"
    assert lines[1].startswith("note: documents leave this machine: the workers of the Ray cluster at head:6379 ")
    assert sweep(texts, "--dry-run").stderr == ""


def test_workers_without_ray_say_what_to_install(
    texts: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    options = ("--out", str(tmp_path / "out"))
    refused = sweep(texts, *options, "--workers", "2")
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (2, f"Error: {INSTALL}")
    assert "requirements-sweep.txt" in INSTALL
    assert sweep(texts, *options).exit_code == 0
