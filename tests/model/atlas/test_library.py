import os
from pathlib import Path

import numpy as np
import pytest

from model.atlas import library
from model.atlas.errors import AtlasError
from tests.sweeps import write_sweep

COUNTS = np.full((2, 1, 2), 3)


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(library, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setenv(library.VARIABLE, os.pathsep.join([str(tmp_path / "one"), str(tmp_path / "several"), ""]))
    return tmp_path


def test_lists_shipped_sweeps_then_allowed_folders_and_their_children(allow: Path) -> None:
    for name in ("shipped/mini", "one", "several/b", "several/a", "several/deep/er"):
        write_sweep(allow / name, COUNTS)
    (allow / "several" / "notes").mkdir()
    assert list(library.available()) == ["mini", "one", "a", "b"]
    assert library.available()["a"] == allow / "several" / "a"


def test_second_folder_of_a_name_is_listed_by_its_path(allow: Path) -> None:
    for name in ("shipped/mini", "several/mini"):
        write_sweep(allow / name, COUNTS)
    assert list(library.available()) == ["mini", str(allow / "several" / "mini")]


def test_sweep_is_opened_once_and_anew_when_it_was_written_anew(allow: Path) -> None:
    write_sweep(allow / "one", COUNTS)
    first = library.opened("one")
    assert library.opened("one") is first
    write_sweep(allow / "one", COUNTS, manifest={"times": {"finished": "later"}})
    assert library.opened("one") is not first


def test_error_has_the_name_and_not_the_path(allow: Path) -> None:
    (write_sweep(allow / "one", COUNTS) / "counts.parquet").unlink()
    with pytest.raises(AtlasError, match=r"^one holds an unfinished sweep without counts.parquet"):
        library.opened("one")
    with pytest.raises(AtlasError, match="no sweep is called 'two'"):
        library.opened("two")
