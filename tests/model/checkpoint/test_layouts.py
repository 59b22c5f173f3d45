"""Layouts that are not read, and absent files, are named with what to do, before any list of missing tensors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.checkpoint.files import INDEX_NAME, ModelFolder
from model.checkpoint.header import CheckpointError
from model.checkpoint.weights import inspect, load_model, save_model
from tests.models import random_model, tiny_config

Tensors = dict[str, Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(random_model(tiny_config()), tmp_path / "m", torch.float32)
    return tmp_path / "m"


def renamed(change: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


def stack(part: str, axis_names: str = "experts.{}") -> Callable[[Tensors], Tensors]:
    """Stack the experts of each layer in one tensor, by the name that `part` has there."""

    def stacked(tensors: Tensors) -> Tensors:
        kept = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
        for layer in range(1, 5):
            begin = f"model.layers.{layer}.mlp."
            each = [tensors[f"{begin}experts.{expert}.gate_proj.weight"] for expert in range(16)]
            kept[begin + part] = torch.stack(each)
        return kept

    return stacked


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (renamed(lambda name: f"language_model.{name}"), "begin with 'language_model.model.' where 'model.' is needed"),
        (renamed(lambda name: f"module.{name}"), "begin with 'module.model.' where 'model.' is needed"),
        (
            renamed(lambda name: name.replace("model.", "model.language_model.", 1)),
            "begin with 'model.language_model.' where 'model.' is needed",
        ),
        (renamed(lambda name: name.removeprefix("model.")), "the names lack their beginning, 'model.'"),
        (
            stack("experts.gate_up_proj"),
            "in one tensor (model.layers.1.mlp.experts.gate_up_proj of shape [16, ",
        ),
        (stack("switch_mlp.gate_proj.weight"), "as mlx-lm writes them"),
        (stack("experts.w13_weight"), "stacked in one tensor"),
        (
            renamed(lambda name: name.replace("q_a_proj", "q_a_proj.base_layer")),
            "adapter of peft that is not merged",
        ),
        (renamed(lambda name: name.replace(".mlp.gate_proj", ".mlp.linear_fc1")), "the names are those of Megatron"),
        (
            renamed(lambda name: name.replace("self_attn.kv_a_proj_with_mqa", "attn.wkv_a")),
            "those of DeepSeek's own inference code",
        ),
        (renamed(lambda name: name.replace("model.layers", "blk")), "the names are those of llama.cpp"),
        (renamed(lambda name: name.replace("o_proj.weight", "o_proj.qweight")), "packed integers of a quantised model"),
        (renamed(lambda name: f"x{hash(name)}"), "no name is one of a model of this family"),
        (
            lambda tensors: {name: tensor for name, tensor in tensors.items() if ".layers.4." not in name},
            "nothing of layer 4 is here",
        ),
    ],
)
def test_the_layout_is_named_first(folder: Path, change: Callable[[Tensors], Tensors], cause: str) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)
    assert cause in inspect(folder).cause
    with pytest.raises(CheckpointError) as refusal:
        load_model(folder, "cpu", torch.float32)
    assert cause in str(refusal.value)
    assert "missing)" in str(refusal.value)
    assert "more problem" not in str(refusal.value)


def test_a_single_missing_tensor_has_no_cause_of_its_own(folder: Path) -> None:
    assert inspect(folder).cause == ""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.2.mlp.experts.3.up_proj.weight"]
    save_file(tensors, path)
    assert inspect(folder).cause == ""
    assert inspect(folder).summary == "tensor model.layers.2.mlp.experts.3.up_proj.weight is missing"


def shards(folder: Path) -> list[Path]:
    save_model(random_model(tiny_config()), folder, torch.float32, max_shard_bytes=400_000)
    return sorted(folder.glob("model-*.safetensors"))


def test_shards_without_an_index_are_named(folder: Path) -> None:
    paths = shards(folder)
    (folder / INDEX_NAME).unlink()
    with pytest.raises(CheckpointError, match=r"model-00001-of-0000\d.safetensors \(\d of \d files\) lies here w"):
        ModelFolder(folder)
    with pytest.raises(CheckpointError, match="without the index that names all; copy it"):
        inspect(folder)
    assert len(paths) > 1


def test_lost_shards_are_counted(folder: Path) -> None:
    paths = shards(folder)
    paths[0].unlink()
    with pytest.raises(CheckpointError, match=f"lacks {paths[0].name}: 1 of the {len(paths)} files that "):
        ModelFolder(folder)


def test_what_lies_in_place_of_the_weights_is_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    with pytest.raises(CheckpointError, match="consolidated.safetensors is not read under that name"):
        ModelFolder(folder)
    (folder / "consolidated.safetensors").rename(folder / "model.gguf")
    with pytest.raises(CheckpointError, match="model.gguf is a file of llama.cpp, which is not read"):
        ModelFolder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="lacks config.json: model.gguf is a file of llama.cpp"):
        ModelFolder(folder)


def test_an_adapter_alone_and_a_repository_of_the_hub_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "who/what"}))
    with pytest.raises(CheckpointError, match="lacks config.json: it holds an adapter alone, of 'who/what'; merge it"):
        ModelFolder(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    shutil.copytree(folder, tmp_path / "snapshots" / "0123")
    with pytest.raises(CheckpointError, match="it is a repository in the hub's cache; give one of the folders in its"):
        ModelFolder(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pointer_of_git_lfs_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7847652\n")
    with pytest.raises(CheckpointError, match=f"{name} is a pointer of Git LFS, not the file itself; run `git lfs"):
        ModelFolder(folder)
