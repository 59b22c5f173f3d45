"""A damaged or hostile model folder gives a one-line error; nothing is executed, and no stated size is allocated."""

import hashlib
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from model.checkpoint.files import ModelFolder, find_file
from model.checkpoint.header import CheckpointError, read_header, read_json

WEIGHTS = {"one": torch.arange(6.0).view(2, 3), "two": torch.ones(4, dtype=torch.bfloat16)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "anything"}')
    save_file(WEIGHTS, path / "model.safetensors")
    return path


def write_raw(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def shard(folder: Path, weight_map: Any) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_lists_and_reads_tensors_by_name(folder: Path) -> None:
    with ModelFolder(folder) as opened:
        assert opened.config == {"model_type": "anything"}
        assert {name: (t.dtype, t.shape) for name, t in opened.tensors.items()} == {
            "one": ("F32", (2, 3)),
            "two": ("BF16", (4,)),
        }
        assert torch.equal(opened.read_as("one", torch.float32), WEIGHTS["one"])
        assert opened.read_as("two", torch.bfloat16).dtype == torch.bfloat16
        with pytest.raises(CheckpointError, match="no tensor three"):
            opened.read_as("three", torch.float32)


def test_shards_are_found_through_the_index(folder: Path) -> None:
    save_file({"one": WEIGHTS["one"], "unlisted": torch.ones(1)}, folder / "b.safetensors")
    save_file({"two": WEIGHTS["two"]}, folder / "a.safetensors")
    shard(folder, {"one": "b.safetensors", "two": "a.safetensors"})
    with ModelFolder(folder) as opened:
        assert sorted(opened.tensors) == ["one", "two"]
        assert torch.equal(opened.read_as("one", torch.float32), WEIGHTS["one"])


def test_sha256_is_that_of_the_file_or_of_the_shards_one_after_the_other(folder: Path) -> None:
    single = (folder / "model.safetensors").read_bytes()
    assert ModelFolder(folder).sha256() == hashlib.sha256(single).hexdigest()
    save_file({"one": WEIGHTS["one"]}, folder / "b.safetensors")
    save_file({"two": WEIGHTS["two"]}, folder / "a.safetensors")
    shard(folder, {"one": "b.safetensors", "two": "a.safetensors"})
    both = (folder / "a.safetensors").read_bytes() + (folder / "b.safetensors").read_bytes()
    assert ModelFolder(folder).sha256() == hashlib.sha256(both).hexdigest()


def test_missing_folder_config_and_weights_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere is not a folder"):
        ModelFolder(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="neither model.safetensors nor"):
        ModelFolder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"lacks config\.json"):
        ModelFolder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "consolidated.ckpt"])
def test_pickled_checkpoint_is_refused_and_not_run(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    with pytest.raises(CheckpointError, match=f"{name}, a pickled file, which could run code"):
        ModelFolder(folder)
    assert not (tmp_path / "executed").exists()


def test_pickle_under_the_name_of_a_safetensors_file_is_refused_and_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    with pytest.raises(CheckpointError, match="pickled file"):
        ModelFolder(folder)
    torch.save(WEIGHTS, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="pickled file"):
        ModelFolder(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("../outside.safetensors", "not a plain file name"),
        ("/etc/outside.safetensors", "not a plain file name"),
        ("sub/inside.safetensors", "not a plain file name"),
        ("..\\outside.safetensors", "not a plain file name"),
        ("a\0.safetensors", "not a plain file name"),
        ("shard.bin", "pickled"),
        ("shard.npz", "not a .safetensors file"),
        ("absent.safetensors", "lacks absent.safetensors"),
        (7, "must be a name"),
    ],
)
def test_index_may_name_only_safetensors_files_of_the_folder(folder: Path, name: Any, complaint: str) -> None:
    save_file(WEIGHTS, folder.parent / "outside.safetensors")
    shard(folder, {"one": name})
    with pytest.raises(CheckpointError, match=complaint):
        ModelFolder(folder)


def test_index_that_places_a_tensor_wrongly_is_refused(folder: Path) -> None:
    save_file(WEIGHTS, folder / "a.safetensors")
    shard(folder, {"one": "a.safetensors", "three": "a.safetensors"})
    with pytest.raises(CheckpointError, match=r"places three in a\.safetensors, which does not hold it"):
        ModelFolder(folder)


@pytest.mark.parametrize("weight_map", [None, {}, [], "x"])
def test_index_without_a_map_is_refused(folder: Path, weight_map: Any) -> None:
    shard(folder, weight_map)
    with pytest.raises(CheckpointError, match="no weight_map"):
        ModelFolder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "secret")
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match=f"{name} is a link out of its folder"):
        ModelFolder(folder)


def test_link_within_the_folder_and_a_linked_folder_are_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights")
    (folder / "model.safetensors").symlink_to("weights")
    (tmp_path / "alias").symlink_to(folder)
    assert sorted(ModelFolder(tmp_path / "alias").tensors) == ["one", "two"]


def make_hub_cache(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    snapshot, blobs = tmp_path / "repo" / "snapshots" / "abc", tmp_path / "repo" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(blobs / name)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    return snapshot, blobs


def test_hub_cache_snapshot_links_into_its_own_blobs(folder: Path, tmp_path: Path) -> None:
    snapshot, _ = make_hub_cache(folder, tmp_path)
    assert sorted(ModelFolder(snapshot).tensors) == ["one", "two"]


def test_hub_cache_snapshot_may_not_link_into_another_repository(folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = make_hub_cache(folder, tmp_path)
    other = tmp_path / "other" / "blobs"
    other.mkdir(parents=True)
    (blobs / "model.safetensors").rename(other / "model.safetensors")
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(other / "model.safetensors")
    with pytest.raises(CheckpointError, match="link out of its folder"):
        ModelFolder(snapshot)


def test_link_in_a_circle_and_a_folder_in_place_of_a_file_are_refused(folder: Path) -> None:
    (folder / "circle").symlink_to("circle")
    (folder / "sub").mkdir()
    with pytest.raises(CheckpointError, match="lacks circle"):
        find_file(folder, "circle")
    with pytest.raises(CheckpointError, match="sub is not an ordinary file"):
        find_file(folder, "sub")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "config.json is not usable JSON"),
        (b"{", "not usable JSON"),
        (b"\xff\xfe", "not usable JSON"),
        (b"[1]", "must hold a JSON object"),
        (b'{"a": 1, "a": 2}', "a key occurs twice"),
        (rb'{"a": ["\ud800"]}', "config.json holds half of a surrogate pair"),
        (b"[" * 90_000, "not usable JSON"),
        (b"[" * 200_000, "has 200,000 lists, more than the 100,000 that are read"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not usable JSON"),
    ],
)
def test_unusable_config_is_one_clear_line(folder: Path, content: bytes, complaint: str) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        ModelFolder(folder)
    assert "\n" not in str(caught.value)


def test_oversized_json_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(CheckpointError, match="larger than the 17 MB that are read"):
        read_json(path)


@pytest.mark.parametrize(
    ("header", "data", "complaint"),
    [
        ({"a": entry()}, bytes(7), "a ends at byte 8 of 7; the file is truncated or damaged"),
        ({"a": entry(shape=[1 << 40, 1 << 40], offsets=[0, 8])}, bytes(8), "does not fill the 8 bytes it claims"),
        ({"a": entry(shape=[1 << 60], offsets=[0, 1 << 62])}, bytes(8), "unusable shape"),
        ({"a": entry(shape=[1 << 30, 1 << 30], offsets=[0, 8])}, bytes(8), "does not fill the 8 bytes it claims"),
        ({"a": entry(shape=[1 << 30, 1 << 30], offsets=[0, 1 << 48])}, bytes(8), "ends at byte 281474976710656 of 8"),
        ({"a": entry(shape=[2], offsets=[0, 1 << 45])}, bytes(8), "ends at byte 35184372088832 of 8"),
        ({"a": entry(shape=[10**30])}, bytes(8), "unusable shape"),
        ({"a": entry(shape=[-2])}, bytes(8), "unusable shape"),
        ({"a": entry(shape=[True, 2])}, bytes(8), "unusable shape"),
        ({"a": entry(shape="2")}, bytes(8), "unusable shape"),
        ({"a": entry(shape=[1] * 500)}, bytes(8), "unusable shape"),
        ({"a": entry(offsets=[8, 0])}, bytes(8), "ends at byte 0 of 8"),
        ({"a": entry(offsets=[0, 8, 8])}, bytes(8), "unusable shape or position"),
        ({"a": entry(dtype="OBJECT")}, bytes(8), "unknown dtype 'OBJECT'"),
        ({"a": entry(dtype=["F32"])}, bytes(8), "unknown dtype"),
        ({"a": {"dtype": "F32"}}, bytes(8), "entry for a is incomplete"),
        ({"a": 1}, bytes(8), "entry for a is incomplete"),
        ({"a": entry(), "b": entry()}, bytes(8), "b starts at byte 0, not at 8"),
        ({"a": entry(offsets=[4, 12])}, bytes(12), "a starts at byte 4, not at 0"),
        ({"a": entry()}, bytes(9), "1 bytes belong to no tensor"),
        ([], b"", "must hold a JSON object"),
        (b"{", b"", "not usable JSON"),
        (b'{"a": 1, "a": 2}', b"", "a key occurs twice"),
    ],
)
def test_header_that_contradicts_its_file_is_refused(tmp_path: Path, header: Any, data: bytes, complaint: str) -> None:
    path = tmp_path / "model.safetensors"
    write_raw(path, header, data)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1, 10_000])
def test_header_length_is_checked_before_anything_is_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.safetensors"
    write_raw(path, {}, length=length)
    with pytest.raises(CheckpointError, match=f"header claims {length} bytes, the file has 10"):
        read_header(path)


@pytest.mark.parametrize("size", [0, 7])
def test_file_too_short_for_a_header_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(size))
    with pytest.raises(CheckpointError, match=f"only {size} bytes"):
        read_header(tmp_path / "model.safetensors")


@given(cut=st.integers(min_value=0), flip=st.integers(min_value=0, max_value=255))
def test_no_cut_or_changed_header_byte_escapes_as_another_exception(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "model.safetensors"
    save_file(WEIGHTS, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % len(whole)])
    with pytest.raises(CheckpointError):
        read_header(path)
    (header_length,) = struct.unpack("<Q", whole[:8])
    place = cut % (8 + header_length)
    path.write_bytes(whole[:place] + bytes([flip]) + whole[place + 1 :])
    complaint, num_bytes = "", 32
    try:
        num_bytes = sum(tensor.num_bytes for tensor in read_header(path).values())
    except CheckpointError as error:
        complaint = str(error)
    assert complaint.isprintable()
    assert num_bytes == 32


def test_names_from_the_file_cannot_break_the_line_or_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_raw(path, {"a\n\x1b[31m" + "\x00" * 5000: entry()}, bytes(7))
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2100


@pytest.mark.parametrize(("dtype", "bits"), [("F8_E5M2", 8), ("F8_E8M0", 8), ("F64", 64), ("I8", 8)])
def test_unsupported_dtype_is_listed_but_not_read(folder: Path, dtype: str, bits: int) -> None:
    write_raw(folder / "model.safetensors", {"a": entry(dtype, [8], [0, bits])}, bytes(bits))
    opened = ModelFolder(folder)
    assert opened.tensors["a"].dtype == dtype
    with pytest.raises(CheckpointError, match=f"tensor a is stored as {dtype}"):
        opened.read_as("a", torch.float32)
