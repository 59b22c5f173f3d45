"""The report as JSON, HTML and lines, and the command that writes it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from model.checkpoint.embedded import find_model
from model.cli.main import main
from model.doctor.findings import CLEAR, ERROR, NOTE, UNSEEN, WARNING, Check, Finding, Report, make_report, overview
from model.doctor.report import to_html, to_json, to_lines
from model.run.engine import Engine
from model.run.request import RunRequest
from model.trace.file import save
from tests.model.doctor.checkpoints import BIAS, expert, plant, written
from tests.models import random_model, tiny_config

SECRET = "the prompt's own words"


@pytest.fixture
def report() -> Report:
    findings = [
        Finding(NOTE, "bias", "L1: quiet", "nothing", {"mean": float("nan")}, 1),
        Finding(ERROR, "bias", "L2E3: <script>alert(1)</script>", "bad & worse", {"n": 3}, 2, 3, "<b>"),
        Finding(WARNING, "manifest", "whole", "none", {}),
    ]
    checks = [
        Check("bias", "weights", "two", (1, 2, 4)),
        Check("fp8", "weights", "", skipped="none"),
        Check("m", "w", ""),
    ]
    return make_report("mini<i>", checks, findings, {"Table": [{"layer": 1, "share": 0.12345}]}, (SECRET,))


def test_findings_come_gravest_first(report: Report) -> None:
    assert [found.severity for found in report.findings] == [ERROR, WARNING, NOTE]
    assert (report.worst, report.reaches(WARNING), report.count(NOTE)) == (ERROR, True, 1)
    assert not make_report("m", [], report.findings[2:]).reaches(WARNING)


def test_the_overview_tells_silence_from_not_having_looked(report: Report) -> None:
    marks = overview(report)
    assert marks["check"].values.tolist() == ["bias"]
    assert marks.sel(check="bias").values.tolist() == [1, 3, CLEAR]
    two = make_report("m", [Check("a", "w", "", (0,)), Check("b", "w", "", (1,))], [])
    assert overview(two).values.tolist() == [[CLEAR, UNSEEN], [UNSEEN, CLEAR]]


def test_json_is_standard_and_complete(report: Report) -> None:
    content = json.loads(to_json(report), parse_constant=lambda word: pytest.fail(word))
    assert content["findings"][0]["place"] == "L2E3"
    assert content["findings"][2]["evidence"] == {"mean": "nan"}
    assert content["prompts"] == [SECRET]


def test_html_needs_nothing_else_and_escapes_everything(report: Report) -> None:
    page = to_html(report)
    assert not re.search(r"<(script|link|img|iframe|object)|https?://|@import|url\(|\ssrc=|\son\w+=", page)
    assert "default-src 'none'" in page
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "mini&lt;i&gt;" in page
    assert "0.123" in page


def test_without_text_no_word_of_a_prompt_is_left(report: Report) -> None:
    from html import escape

    assert escape(SECRET) in to_html(report)
    bare = report.without_text()
    assert SECRET not in to_json(bare)
    assert escape(SECRET) not in to_html(bare)
    assert len(bare.findings) == 3


def test_lines_say_what_was_not_looked_at(report: Report) -> None:
    lines = to_lines(report)
    assert lines[0] == "mini<i>: 1 error, 1 warning, 1 note; 2 checks were made"
    assert any("not: none" in line for line in lines)


# --- the command -----------------------------------------------------------------------------------------------------


def doctor(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["doctor", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(random_model(tiny_config()), tmp_path / "model")


def test_a_healthy_folder_exits_with_0(folder: Path) -> None:
    result = doctor(folder, "--weights-only", "--fail-on", "warning")
    assert result.exit_code == 0
    assert "0 errors, 0 warnings" in result.output


def test_a_fault_exits_with_1_where_it_reaches_the_limit(folder: Path) -> None:
    plant(folder, lambda tensors: tensors[BIAS].zero_())
    assert doctor(folder, "--weights-only").exit_code == 0
    assert doctor(folder, "--weights-only", "--fail-on", "warning").exit_code == 1
    plant(folder, lambda tensors: tensors.pop(expert(2, 5)))
    result = doctor(folder, "--json")
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert [found["place"] for found in content["findings"] if found["severity"] == ERROR] == ["L2E5"]
    assert [check["skipped"] for check in content["checks"]][-1] == "the model cannot be loaded"


def test_prompts_and_a_reference_are_run(folder: Path, tmp_path: Path) -> None:
    ids = tuple(range(2, 80))
    save(Engine.load(folder, device="cpu").run(RunRequest(token_ids=ids)), tmp_path / "healthy.safetensors")
    plant(folder, lambda tensors: tensors[BIAS][4].add_(0.05))
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"ids": ids}))
    page = tmp_path / "report.html"
    result = doctor(
        folder, "--prompts", tmp_path / "prompts.jsonl", "--reference", tmp_path / "healthy.safetensors",
        "--html", page, "--json", "--without-text",
    )  # fmt: skip
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert ("reference", "L3E4") in [(found["check"], found["place"]) for found in content["findings"]]
    assert content["prompts"] == []
    assert content["measures"]["Routing layer by layer"][0]["tokens"] == len(ids)
    assert page.read_text().startswith("<!doctype html>")


def test_unusable_input_exits_with_2_in_one_line(folder: Path, tmp_path: Path) -> None:
    for arguments in (
        ["nowhere"],
        [folder, "--prompts", tmp_path / "nothing.txt"],
        [folder, "--reference", tmp_path / "nothing.safetensors"],
        [folder, "--html", tmp_path / "no" / "report.html"],
        [folder, "--weights-only", "--prompts", "x"],
    ):
        result = doctor(*arguments)
        assert result.exit_code == 2, arguments
        assert "Traceback" not in result.output


# --- stages that fail leave the others -------------------------------------------------------------------------------


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", ')


def lfs_pointer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7847652\n")


@pytest.mark.parametrize("damage", [broken_tokenizer, lfs_pointer])
def test_an_unusable_tokenizer_leaves_the_weights_audit(
    folder: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(folder)
    plant(folder, lambda tensors: tensors[BIAS].zero_())
    page = tmp_path / "report.html"
    result = doctor(folder, "--json", "--html", page)
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    assert [(found["check"], found["severity"]) for found in content["findings"]] == [
        ("tokenizer", WARNING), ("bias", WARNING),
    ]  # fmt: skip
    assert "tokenizer.json" in content["checks"][-1]["skipped"]
    assert "every bias is 0" in page.read_text()
    assert doctor(folder, "--fail-on", "warning").exit_code == 1


def test_ids_are_run_whatever_the_tokenizer_is(folder: Path, tmp_path: Path) -> None:
    save(Engine.load(folder, device="cpu").run(RunRequest(token_ids=(2, 3, 4, 9))), tmp_path / "healthy.safetensors")
    broken_tokenizer(folder)
    (tmp_path / "prompts.jsonl").write_text('{"ids": [5, 6, 7]}')
    given = ("--prompts", tmp_path / "prompts.jsonl", "--reference", tmp_path / "healthy.safetensors")
    result = doctor(folder, *given)
    assert result.exit_code == 0
    assert "routes these tokens as the reference does" in result.output
    assert "not:" not in result.output.replace("not: the folder has no FP8", "").replace("not: no groups", "")


def test_a_vocabulary_of_another_kind_is_named(folder: Path) -> None:
    (folder / "tiktoken.model").write_bytes(b"AA== 0\n")
    result = doctor(folder)
    assert result.exit_code == 0
    assert "no tokenizer.json, only tiktoken.model" in result.output


def test_a_tokenizer_larger_than_the_model_is_found(folder: Path) -> None:
    shutil.copy(find_model("mini-v3") / "tokenizer.json", folder)
    content = json.loads(doctor(folder, "--json", "--weights-only").stdout)
    (found,) = content["findings"]
    assert (found["severity"], found["check"], found["evidence"]) == (
        ERROR,
        "tokenizer",
        {"ids": 8192, "vocab_size": 320},
    )


@pytest.mark.parametrize(
    ("line", "words"), [('{"ids": [1, -2]}', "line 1 must be"), ('{"ids": [5, 320]}', "token id 320")]
)
def test_a_bad_prompt_leaves_the_weights_and_the_reference(folder: Path, tmp_path: Path, line: str, words: str) -> None:
    save(Engine.load(folder, device="cpu").run(RunRequest(token_ids=(2, 3, 4))), tmp_path / "healthy.safetensors")
    (tmp_path / "prompts.jsonl").write_text(line)
    result = doctor(
        folder, "--prompts", tmp_path / "prompts.jsonl", "--reference", tmp_path / "healthy.safetensors", "--json"
    )
    assert result.exit_code == 1  # what was asked for was not done
    content = json.loads(result.stdout)
    (error,) = [found for found in content["findings"] if found["severity"] == ERROR]
    assert words in error["what"]
    made = [check["name"] for check in content["checks"] if not check["skipped"]]
    assert {"values", "experts", "reference"} <= set(made)


def test_an_unusable_reference_leaves_the_text(folder: Path, tmp_path: Path) -> None:
    other = written(random_model(tiny_config(num_experts=8)), tmp_path / "other")
    save(Engine.load(other, device="cpu").run(RunRequest(token_ids=(2, 3, 4))), tmp_path / "other.safetensors")
    (tmp_path / "prompts.jsonl").write_text('{"ids": [5, 6, 7]}')
    result = doctor(folder, "--prompts", tmp_path / "prompts.jsonl", "--reference", tmp_path / "other.safetensors")
    assert result.exit_code == 1
    assert "the reference was not compared: the reference is of a model with n_routed_experts 8" in result.output
    assert "near ties" in result.output


def test_a_failing_run_leaves_the_weights_audit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("boom\nat length")

    monkeypatch.setattr(Engine, "run", fail)
    (tmp_path / "prompts.jsonl").write_text('{"ids": [5, 6, 7]}')
    result = doctor(folder, "--prompts", tmp_path / "prompts.jsonl")
    assert result.exit_code == 1
    assert "the texts were not run: a fault of this program (RuntimeError: boom)" in result.output
    assert "1 error, 0 warnings" in result.output
