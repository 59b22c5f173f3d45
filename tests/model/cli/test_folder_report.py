"""What `info` prints of a folder: from headers alone, and from a configuration alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from model.checkpoint.weights import inspect, save_model
from model.cli.main import main
from tests.model.checkpoint.released import RELEASED_V3, RELEASED_V32
from tests.models import random_model, tiny_config


def info(folder: Path) -> Result:
    return CliRunner().invoke(main, ["info", str(folder)])


def write_config(folder: Path, published: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(published))
    return folder


def described(folder: Path) -> list[str]:
    """Return the lines on a folder without warnings, with single spaces between columns."""
    result = info(folder)
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def change_tensors(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    tensors = load_file(folder / "model.safetensors") | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(random_model(tiny_config()), tmp_path / "model", torch.float32)
    return tmp_path / "model"


def test_released_v3_is_described_from_its_configuration_alone(tmp_path: Path) -> None:
    lines = described(write_config(tmp_path / "v3", RELEASED_V3))
    assert "parameters 671,026,419,200 in total, 37,552,297,472 active for a token, embedding and head counted" in lines
    assert "embedding 926,679,040 0.14 %" in lines
    assert "attention 11,413,422,080 1.70 %" in lines
    assert "dense feed-forward 1,189,085,184 0.18 %" in lines
    assert "routed experts 653,908,770,816 97.45 %, 20,434,649,088 active" in lines
    assert "MTP 13,463,426,304 beside the total: multi-token prediction, copies included" in lines
    assert (
        "weights none in this folder, only config.json; files would take 1.34 TB in bfloat16, 673 GB in block FP8"
        in lines
    )
    assert "cache 70,272 bytes per token in bfloat16, 140,544 in float32" in lines
    others = "MLA expanded 4,997,120, MHA 3,997,696, GQA-8 249,856, MQA 31,232"
    assert f"other forms of attention with these heads, in bfloat16: {others}" in lines
    assert "memory all weights loaded: 2.73 TB in float32, 1.37 TB in bfloat16" in lines
    layer = "largest layer 1.17 GB, with 8 experts 1.17 GB, with all 256 23 GB; head 1.85 GB"
    assert f"from disk in bfloat16: {layer}" in lines
    # 12 tensors in each of 3 dense layers, 782 in each of 58 MoE layers, and three more.
    assert "manifest 45,395 tensors are needed, none are here" in lines
    assert "supported this configuration, yes; there are no weights to run" in lines
    assert not any(line.startswith("indexer") for line in lines)


def test_released_v32_has_a_part_more(tmp_path: Path) -> None:
    lines = described(write_config(tmp_path / "v32", RELEASED_V32))
    assert "indexer 64 heads of width 128 in 61 layers, 2,048 keys kept" in lines
    assert "indexer 851,524,864 0.13 %" in lines
    assert "cache 85,888 bytes per token in bfloat16, 171,776 in float32" in lines


def test_configuration_without_weights_cannot_be_run(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "v3", RELEASED_V3)
    result = CliRunner().invoke(main, ["trace", str(folder), "--ids", "1", "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "holds neither model.safetensors nor model.safetensors.index.json" in result.stderr


def test_unusable_configuration_without_weights_is_one_line(tmp_path: Path) -> None:
    result = info(write_config(tmp_path / "other", RELEASED_V3 | {"model_type": "llama"}))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "'llama'" in result.stderr
    assert "a dense model has no routing" in result.stderr
    (tmp_path / "empty").mkdir()
    assert "lacks config.json" in info(tmp_path / "empty").stderr


def test_mtp_layer_that_is_not_announced_is_not_counted(tmp_path: Path) -> None:
    few = RELEASED_V3 | {"num_hidden_layers": 4}
    for announced in (0, None, "1", -1):
        lines = described(write_config(tmp_path / "v3", few | {"num_nextn_predict_layers": announced}))
        assert not any(line.startswith("MTP") for line in lines)


def test_complete_folder_says_so_with_its_bytes(folder: Path) -> None:
    lines = described(folder)
    tensors = load_file(folder / "model.safetensors").values()
    num_bytes = sum(tensor.nbytes for tensor in tensors)
    assert f"weights {len(tensors)} tensors in 1 file, {num_bytes:,} bytes, F32" in lines
    assert f"manifest complete: {len(tensors)} tensors, 0 surplus" in lines
    assert f"memory all weights loaded: {num_bytes / 1e6:.3g} MB in float32" in " ".join(lines)


def test_empty_weight_file_is_not_taken_for_no_weights(folder: Path) -> None:
    save_file({}, folder / "model.safetensors")
    result = info(folder)
    assert result.exit_code == 2
    assert "tensor model.embed_tokens.weight is missing" in result.stderr


def test_weights_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr("model.checkpoint.files.read_whole", unwanted)
    described(folder)


def test_folder_in_fp8_and_shards_is_described_with_its_scales(tmp_path: Path) -> None:
    folder = tmp_path / "fp8"
    save_model(random_model(tiny_config()), folder, torch.bfloat16, 20_000, fp8_scales=torch.float8_e8m0fnu)
    lines = described(folder)
    manifest = inspect(folder)
    num_bytes = json.loads((folder / "model.safetensors.index.json").read_text())["metadata"]["total_size"]
    num_files = len(list(folder.glob("*.safetensors")))
    stored = f"{len(manifest.stored)} tensors in {num_files} files, {num_bytes:,} bytes"
    assert f"weights {stored}, BF16, F32, F8_E4M3, F8_E8M0" in lines
    assert f"manifest complete: {len(manifest.present)} tensors, 0 surplus" in lines


def test_mtp_layer_of_a_folder_is_counted_from_its_headers(folder: Path) -> None:
    extra = {
        "model.layers.5.eh_proj.weight": torch.zeros(48, 96),
        "model.layers.5.mlp.gate_proj.weight": torch.zeros(10, 10).to(torch.float8_e4m3fn),
        "model.layers.5.mlp.gate_proj.weight_scale_inv": torch.zeros(1, 1),
    }
    change_tensors(folder, dict(extra))
    lines = described(folder)
    assert f"MTP {48 * 96 + 100:,} beside the total: multi-token prediction, copies included" in lines
    assert "skipped 3 tensors of layer 5, multi-token prediction:" in lines
    assert "tensor model.layers.5.enorm.weight is missing" in lines


def test_what_is_missing_misshapen_and_surplus_is_counted_and_named(folder: Path) -> None:
    gone = [f"model.layers.1.mlp.experts.{expert}.up_proj.weight" for expert in range(7)]
    changes: dict[str, torch.Tensor | None] = dict.fromkeys(gone)
    changes["model.norm.weight"] = torch.zeros(49)
    changes["lm_head.weight"] = torch.zeros(320, 48, dtype=torch.float64)
    changes["unheard\x1b[31m.of"] = torch.zeros(1)
    change_tensors(folder, changes)
    result = info(folder)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    lines = result.stdout.splitlines()
    total = len(load_file(folder / "model.safetensors")) + 7 - 1
    start = lines.index(f"manifest     incomplete: of {total} tensors 7 missing, 1 mis-shaped, 1 unreadable, 1 surplus")
    listed = [line.strip() for line in lines[start + 1 : start + 9]]
    assert listed[:5] == [f"tensor {name} is missing" for name in gone[:5]]
    assert listed[5] == "and 2 more"
    assert listed[6] == "tensor model.norm.weight has shape [49], the configuration asks for [48]"
    assert listed[7].startswith("model.safetensors: tensor lm_head.weight is stored as F64; only F32, F16, BF16 and")
    assert "supported    no" in lines
    assert lines[-1].strip() == "unheard\\x1b[31m.of"


def test_pickled_weights_are_not_taken_for_no_weights(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder / "pytorch_model.bin")
    result = info(folder)
    assert result.exit_code == 2
    assert "a pickled file, which could run code" in result.stderr
