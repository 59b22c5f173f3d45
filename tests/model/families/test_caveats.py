import pytest
import torch

from model.checkpoint.header import CheckpointError
from model.families.caveats import caveats
from model.families.folder import open_folder
from tests.families import saved

CPU = torch.device("cpu")


def test_most_families_have_none() -> None:
    assert caveats({"qwen3_moe"}, from_disk=True) == ()
    assert caveats({"longcat_flash"}, from_disk=False) == ()


def test_notes_name_the_language_model() -> None:
    assert [note.split()[0] for note in caveats(["unlimited_ocr", "unlimited_ocr_text"], from_disk=True)] == [
        "unlimited_ocr"
    ]


def test_longcat_is_refused_before_it_loads_to_the_disk() -> None:
    with pytest.raises(
        CheckpointError, match="^'longcat_flash' cannot compute .*differ from pass to pass.*; free memory"
    ):
        open_folder(saved("longcat_flash"), CPU, limit_bytes=800_000)


def test_notes_reach_the_opened_model() -> None:
    assert any("window of the generated" in note for note in open_folder(saved("unlimited_ocr"), CPU).notes)
