"""The command `report`."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from model.cli.main import main
from model.trace.file import save
from tests.reports import Reader
from tests.traces import random_trace


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    save(random_trace(), tmp_path / "run.safetensors")
    return tmp_path / "run.safetensors"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_a_report_is_written(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.html"
    result = run(trace, "--html", out, "--layer", 2, "--token", 3, "--head", "all")
    assert result.exit_code == 0, result.output
    assert result.output.endswith(f"kB written to {out}\n")
    page = Reader(out.read_text(encoding="utf-8"))
    headings = [heading.text for heading in page.all("h2")]
    assert {"Routing in layer 2", "One token: 3", "Attention of all heads in layer 2"} <= set(headings)
    assert len(page.all("code")) > 10
    assert run(trace, "--html", out, "--without-text").exit_code == 0
    assert len(Reader(out.read_text(encoding="utf-8")).all("code")) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layer", 7), "layer 7 does not exist; the trace holds layers 0 to 2"),
        (("--head", "both"), "'both' is not the number of a head, or all"),
        (("--token", 10), "token 10 does not exist; the trace holds tokens 0 to 9"),
    ],
)
def test_unusable_wishes_write_nothing(trace: Path, tmp_path: Path, options: tuple, message: str) -> None:
    out = tmp_path / "run.html"
    result = run(trace, "--html", out, *options)
    assert result.exit_code == 2
    assert message in result.output
    assert not out.exists()


def test_a_file_that_is_no_trace_is_named(tmp_path: Path) -> None:
    result = run(tmp_path / "none.safetensors", "--html", tmp_path / "run.html")
    assert result.exit_code == 2
    assert f"{tmp_path / 'none.safetensors'} cannot be read" in result.output
