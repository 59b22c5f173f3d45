"""A hostile folder is refused in one line; nothing is allocated, and no file outside the folder is opened."""

import json
import os
import pickle
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from model.checkpoint import weights
from model.checkpoint.header import CheckpointError
from model.checkpoint.weights import inspect, load_model, save_model
from model.cli.main import main
from tests.models import random_model, tiny_config

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
EMBEDDING = "model.embed_tokens.weight"

_watched: list[list[str]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], str | bytes | os.PathLike):
        _watched[-1].append(os.fsdecode(arguments[0]))


sys.addaudithook(_note)  # cannot be taken back; does nothing while nobody watches


@pytest.fixture
def opened() -> Iterator[list[str]]:
    _watched.append([])
    yield _watched[-1]
    _watched.pop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").mkdir()
    save_model(random_model(tiny_config()), tmp_path / "secret" / "model", torch.float32)
    save_model(random_model(tiny_config()), tmp_path / "model", torch.float32)
    return tmp_path / "model"


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write(path: Path, header: Any, data: bytes, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def change_entry(folder: Path, name: str, **changes: Any) -> None:
    header, data = header_of(folder / SINGLE)
    header[name] |= changes
    write(folder / SINGLE, header, data)


def longer_header(folder: Path) -> None:
    header, data = header_of(folder / SINGLE)
    write(folder / SINGLE, header, data, length=1 << 62)


def overlapping_offsets(folder: Path) -> None:
    header, data = header_of(folder / SINGLE)
    header["lm_head.weight"] |= {"data_offsets": header[EMBEDDING]["data_offsets"]}
    write(folder / SINGLE, header, data)


def negative_shape(folder: Path) -> None:
    change_entry(folder, EMBEDDING, shape=[-320, -48])


def many_elements(folder: Path) -> None:
    change_entry(folder, EMBEDDING, shape=[1 << 30, 1 << 30])


def many_elements_that_overflow(folder: Path) -> None:
    """2^64 + 15,360 elements look like 15,360 if the product overflows."""
    change_entry(folder, EMBEDDING, shape=[(1 << 32) + 320, 1 << 32])


def duplicate_name(folder: Path) -> None:
    header, data = header_of(folder / SINGLE)
    entry = json.dumps(header[EMBEDDING])
    text = json.dumps(header)[:-1] + f', "{EMBEDDING}": {entry}}}'
    write(folder / SINGLE, text.encode(), data)


def pickle_renamed(folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (folder.parent / "executed",)

    (folder / SINGLE).write_bytes(pickle.dumps(Bomb()))


def index_to(folder: Path, file_name: str) -> None:
    names = [name for name in header_of(folder / SINGLE)[0] if name != "__metadata__"]
    (folder / SINGLE).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, file_name)}))


def index_to_a_parent(folder: Path) -> None:
    index_to(folder, "../secret/model/model.safetensors")


def index_to_an_absolute_path(folder: Path) -> None:
    index_to(folder, str(folder.parent / "secret" / "model" / SINGLE))


def shard_that_links_out(folder: Path) -> None:
    index_to(folder, "a.safetensors")
    (folder / "a.safetensors").symlink_to(folder.parent / "secret" / "model" / SINGLE)


def weights_that_link_out(folder: Path) -> None:
    (folder / SINGLE).unlink()
    (folder / SINGLE).symlink_to(folder.parent / "secret" / "model" / SINGLE)


def link_over_two_links(folder: Path) -> None:
    (folder / SINGLE).unlink()
    (folder / "next").symlink_to(folder.parent / "secret" / "model" / SINGLE)
    (folder / SINGLE).symlink_to("next")


def config_that_links_out(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(folder.parent / "secret" / "model" / "config.json")


def index_that_links_out(folder: Path) -> None:
    save_model(random_model(tiny_config()), folder.parent / "secret" / "model", torch.float32, 10_000)
    (folder / SINGLE).unlink()
    (folder / INDEX).symlink_to(folder.parent / "secret" / "model" / INDEX)


def pipe_in_place_of_weights(folder: Path) -> None:
    (folder / SINGLE).unlink()
    os.mkfifo(folder / SINGLE)


def pipe_in_place_of_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def file_of_a_terabyte(folder: Path) -> None:
    """The sparse file is as large as its header says, without space on disk. The configuration does not need it."""
    header, _ = header_of(folder / SINGLE)
    values = {name: entry for name, entry in header.items() if name != "__metadata__"}
    position = 0
    for name, entry in values.items():
        entry["shape"] = [1 << 38] if name == EMBEDDING else entry["shape"]
        size = 4 * torch.Size(entry["shape"]).numel()
        entry["data_offsets"] = [position, position + size]
        position += size
    text = json.dumps(values).encode()
    write(folder / SINGLE, text, b"")
    os.truncate(folder / SINGLE, 8 + len(text) + position)


HOSTILE: list[tuple[Callable[[Path], None], str]] = [
    (longer_header, "truncated or no safetensors file: its header claims 4611686018427387904 bytes"),
    (overlapping_offsets, "the file is damaged"),
    (negative_shape, "unusable shape"),
    (many_elements, r"of shape \[1073741824, 1073741824\] does not fill"),
    (many_elements_that_overflow, "does not fill"),
    (duplicate_name, "a key occurs twice"),
    (pickle_renamed, "a pickled file"),
    (index_to_a_parent, "is not a plain file name"),
    (index_to_an_absolute_path, "is not a plain file name"),
    (shard_that_links_out, r"a\.safetensors is a link out of its folder"),
    (weights_that_link_out, r"model\.safetensors is a link out of its folder"),
    (link_over_two_links, r"model\.safetensors is a link out of its folder"),
    (config_that_links_out, r"config\.json is a link out of its folder"),
    (index_that_links_out, r"index\.json is a link out of its folder"),
    (pipe_in_place_of_weights, "is not an ordinary file"),
    (pipe_in_place_of_config, "is not an ordinary file"),
]


def check_refused(
    folder: Path, complaint: str, opened: list[str], monkeypatch: pytest.MonkeyPatch, use: Callable[[], object]
) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("memory was allocated")

    monkeypatch.setattr(weights, "_allocate", unwanted)
    monkeypatch.setattr("model.checkpoint.files.read_whole", unwanted)
    opened.clear()
    with pytest.raises(CheckpointError, match=complaint) as caught:
        use()
    assert str(caught.value).isprintable()
    assert [path for path in opened if "secret" in path or path.startswith(str(folder / ".."))] == []
    assert not (folder.parent / "executed").exists()


@pytest.mark.parametrize(("spoil", "complaint"), HOSTILE, ids=lambda value: getattr(value, "__name__", ""))
def test_hostile_folder_is_refused_before_anything_is_allocated_or_opened(
    folder: Path,
    spoil: Callable[[Path], None],
    complaint: str,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(folder)
    check_refused(folder, complaint, opened, monkeypatch, lambda: load_model(folder, "cpu", torch.float32))
    check_refused(folder, complaint, opened, monkeypatch, lambda: inspect(folder))
    result = CliRunner().invoke(main, ["info", str(folder)])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_the_watch_sees_what_is_opened(folder: Path, opened: list[str]) -> None:
    load_model(folder, "cpu", torch.float32)
    assert str(folder / "config.json") in opened
    assert str(folder / SINGLE) in opened


def test_terabyte_that_nobody_asked_for_is_not_touched(
    folder: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of_a_terabyte(folder)
    complaint = r"embed_tokens\.weight has shape \[274877906944\], the configuration asks for \[320, 48\]"
    check_refused(folder, complaint, opened, monkeypatch, lambda: load_model(folder, "cpu", torch.float32))
    assert inspect(folder).misshapen[0].startswith("tensor model.embed_tokens.weight has shape")


def test_model_larger_than_the_memory_is_refused_before_it_is_allocated(
    folder: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "memory_bytes", lambda: 1_000_000)
    complaint = r"the weights need 0\.0 GB in float32, this machine has 0\.0 GB of memory"
    check_refused(folder, complaint, opened, monkeypatch, lambda: load_model(folder, "cpu", torch.float32))
    monkeypatch.setattr(weights, "free_bytes", lambda gpu: 1_000_000)
    complaint = r"in float32, the GPU has 0\.0 GB free; use a narrower dtype, the CPU, or leave them on the disk"
    check_refused(folder, complaint, opened, monkeypatch, lambda: load_model(folder, "cuda", torch.float32))
    monkeypatch.undo()
    assert load_model(folder, "cpu", torch.float32).config == tiny_config()
    total = weights.memory_bytes()
    assert total is None or total > 1 << 28


def test_blobs_of_a_hub_cache_may_not_be_a_link_themselves(folder: Path) -> None:
    repository = folder.parent / "repository"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").symlink_to(folder.parent / "secret" / "model")
    for name in ("config.json", SINGLE):
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    with pytest.raises(CheckpointError, match=r"config\.json is a link out of its folder"):
        load_model(snapshot, "cpu", torch.float32)


def test_model_in_a_hub_cache_loads_with_its_shards(folder: Path) -> None:
    save_model(random_model(tiny_config()), folder, torch.float32, max_shard_bytes=200_000)
    repository = folder.parent / "repository"
    snapshot, blobs = repository / "snapshots" / "abc", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / f"{number:064x}")  # named by their hash, without a suffix
        (snapshot / path.name).symlink_to(f"../../blobs/{number:064x}")
    model = load_model(snapshot, "cpu", torch.float32)
    assert torch.equal(model.norm.weight, random_model(tiny_config()).norm.weight)
