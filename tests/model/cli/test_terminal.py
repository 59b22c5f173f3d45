"""Control characters from inside files never reach the terminal."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from model.cli.main import main
from model.cli.terminal import escaped
from model.trace.file import save
from tests import engines
from tests.traces import random_trace

RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
EVIL = "\x1b]0;owned\x07\x9b31m\u202ename"


@given(st.text(st.characters()))
def test_nothing_raw_is_left_and_the_rest_stays(text: str) -> None:
    clean = escaped(text)
    assert not RAW.search(clean)
    clean.encode()
    if not re.search("[\ud800-\udfff\u2028\u2029]", text) and not RAW.search(text):
        assert clean == text


def test_json_stays_json() -> None:
    value = {"name": EVIL + "\u2028", "text": "ä\n\t"}
    assert json.loads(escaped(json.dumps(value, ensure_ascii=False, indent=1))) == value


def test_reports_are_escaped(tmp_path: Path) -> None:
    trace = random_trace()
    source = tmp_path / "ours.safetensors"
    save(dataclasses.replace(trace, model={**trace.model, "name": EVIL}), source)
    result = CliRunner().invoke(main, ["import", str(source), "--out", str(tmp_path / "out.safetensors")])
    assert result.exit_code == 0, result.output
    assert "\\u001b]0;owned\\u0007\\u009b31m\\u202ename" in result.output
    assert not RAW.search(result.output)
    result = CliRunner().invoke(main, ["compare", str(source), str(source)])
    assert result.exit_code == 0, result.output
    assert not RAW.search(result.output)


@pytest.mark.parametrize("field", ["routed_experts_dtype", "id"])
def test_errors_are_escaped(field: str, tmp_path: Path) -> None:
    answer = engines.sglang_generate(engines.random_ids())
    answer["meta_info"][field] = EVIL
    source, folder = tmp_path / f"{EVIL[:2]}.json", tmp_path / "tiny"
    source.write_bytes(engines.as_json(answer))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(engines.CONFIG))
    arguments = ["import", str(source), "--model", str(folder), "--out", str(tmp_path / "missing" / EVIL[:2])]
    assert not RAW.search(CliRunner().invoke(main, arguments).output)
    result = CliRunner().invoke(main, [*arguments[:-1], str(tmp_path / "out")])
    assert not RAW.search(result.output)


def test_every_command_prints_through_one_place() -> None:
    files = Path("model/cli").glob("*.py")
    direct = [file.name for file in files if re.search(r"click\.s?echo\(|\bprint\(", file.read_text(encoding="utf-8"))]
    assert direct == ["terminal.py"]
