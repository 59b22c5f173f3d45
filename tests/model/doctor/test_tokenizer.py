"""The check of a folder's tokenizer: damaged ones, ones of another kind, and ones larger than the model."""

import json
import shutil
from pathlib import Path

import pytest

from model.checkpoint.embedded import find_model
from model.doctor.findings import ERROR, WARNING
from model.doctor.tokenizer import check_tokenizer


def test_a_healthy_tokenizer_raises_nothing() -> None:
    check, findings = check_tokenizer(find_model("mini-v3"), 8192)
    assert (check.skipped, findings) == ("", [])
    assert "8,192 ids" in check.looked_at


def test_more_ids_than_rows_are_found(tmp_path: Path) -> None:
    shutil.copy(find_model("mini-v3") / "tokenizer.json", tmp_path)
    _, (found,) = check_tokenizer(tmp_path, 300)
    assert (found.severity, found.evidence) == (ERROR, {"ids": 8192, "vocab_size": 300})


@pytest.mark.parametrize(("stated", "number"), [(0, 0), (7, 1), (None, 0), ("0", 0), (True, 0)])
def test_another_first_token_is_found(stated: object, number: int) -> None:
    _, findings = check_tokenizer(find_model("mini-v3"), 8192, stated)
    assert [found.severity for found in findings] == [WARNING] * number
    assert all("bos_token_id 7" in found.what and "with id 0" in found.what for found in findings)


@pytest.mark.parametrize("stated", ["300", None, True, [300], float("nan")])
def test_a_vocab_size_that_is_no_number_is_left_to_the_configuration(tmp_path: Path, stated: object) -> None:
    shutil.copy(find_model("mini-v3") / "tokenizer.json", tmp_path)
    assert check_tokenizer(tmp_path, stated)[1] == []


@pytest.mark.parametrize(
    "content",
    ['{"version": "1.0", ', "version https://git-lfs.github.com/spec/v1\nsize 1\n", "[]", json.dumps({"model": {}})],
)
def test_a_file_that_cannot_be_read_is_found(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    _, (found,) = check_tokenizer(tmp_path, 300)
    assert found.severity == WARNING
    assert str(tmp_path) not in found.what


def test_another_kind_of_vocabulary_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"")
    check, findings = check_tokenizer(tmp_path, 300)
    assert findings == []
    assert check.skipped.startswith("the folder has no tokenizer.json, only tokenizer.model, which is not read")
