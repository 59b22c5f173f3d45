"""The name of a model by its folder."""

from pathlib import Path

import pytest

from model.checkpoint.embedded import name_of


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("models/mini-v3", "mini-v3"),
        ("hub/models--Qwen--Qwen3-30B-A3B/snapshots/ae659f4", "Qwen/Qwen3-30B-A3B"),
        ("hub/models--gpt2/snapshots/607a30d", "gpt2"),
        ("mine/snapshots/ae659f4", "ae659f4"),
    ],
)
def test_snapshot_of_a_hub_cache_has_its_repositorys_name(folder: str, name: str) -> None:
    assert name_of(Path(folder)) == name
