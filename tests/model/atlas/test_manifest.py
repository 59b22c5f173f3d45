import dataclasses
import json
from pathlib import Path

import pytest

from model.atlas.errors import AtlasError
from model.atlas.manifest import Manifest

MANIFEST = Manifest(
    model={"name": "tiny", "layers": [1, 2], "num_experts": 4, "top_k": 2},
    request={"policy": {"window": 64}, "dtype": "float32"},
    inputs=({"name": "a.jsonl", "sha256": "00"},),
)


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path)
    assert Manifest.read(tmp_path) == MANIFEST
    assert Manifest.read(tmp_path).hash == MANIFEST.hash


def test_difference_names_what_the_numbers_depend_on() -> None:
    other = dataclasses.replace(
        MANIFEST, request={"policy": {"window": 32}, "dtype": "float32"}, times={"started": "x"}
    )
    assert MANIFEST.difference(other) == ["request.policy.window is 64 and 32"]
    assert MANIFEST.difference(dataclasses.replace(MANIFEST, times={"started": "x"})) == []
    assert MANIFEST.hash != other.hash


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is damaged"),
        (b'{"format": "moe-loupe sweep", "version": 9}', "version 9"),
        (json.dumps({"format": "moe-loupe sweep", "version": 1}).encode(), "which layers and experts"),
    ],
)
def test_other_manifests_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(AtlasError, match=message):
        Manifest.read(tmp_path)
