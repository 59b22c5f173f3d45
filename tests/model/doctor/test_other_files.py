"""What lies beside the weights is named; a tensor that two files hold with other values is an error."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint.header import CheckpointError
from model.checkpoint.weights import save_model
from model.doctor.findings import ERROR, NOTE, WARNING, Finding
from model.doctor.weights import examine_weights
from tests.model.doctor.checkpoints import Tensors, configure, expert, plant, written
from tests.models import random_model, tiny_config

EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(random_model(tiny_config()), tmp_path / "model")


def found_in(folder: Path) -> list[Finding]:
    return [finding for finding in examine_weights(folder).findings if finding.check == "other files"]


def sharded(folder: Path) -> list[Path]:
    save_model(random_model(tiny_config()), folder, torch.float32, max_shard_bytes=400_000)
    return sorted(folder.glob("model-*.safetensors"))


@pytest.mark.parametrize("change", [0.0, 1.0])
def test_a_tensor_of_two_shards_is_compared(folder: Path, change: float) -> None:
    first, *_, last = sharded(folder)
    held = load_file(first)[EMBEDDING]
    save_file(load_file(last) | {EMBEDDING: held + change}, last)
    errors = [finding for finding in found_in(folder) if finding.severity == ERROR]
    assert len(errors) == (change != 0)
    for finding in errors:
        assert (finding.tensor, finding.evidence["tensors"]) == (EMBEDDING, 1)
        assert f"1 tensor has other values in {last.name} than in {first.name}" in finding.what
    assert any("1 tensor in several files" in finding.what for finding in found_in(folder))


def test_a_second_set_of_weights_is_compared(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    (note,) = found_in(folder)
    assert (note.severity, "consolidated.safetensors" in note.what) == (NOTE, True)
    plant(folder, lambda tensors: tensors[expert(2, 3)].mul_(2))
    error, _ = found_in(folder)
    assert (error.severity, error.tensor) == (ERROR, expert(2, 3))
    assert "other values in consolidated.safetensors than in model.safetensors" in error.what


def test_the_last_byte_of_a_large_tensor_is_compared(folder: Path) -> None:
    large = torch.zeros(3_000_001)
    save_file({"model.extra": large}, folder / "other.safetensors")
    plant(folder, lambda tensors: tensors.update({"model.extra": large}))
    assert not [finding for finding in found_in(folder) if finding.severity == ERROR]
    large[-1] = 1
    save_file({"model.extra": large}, folder / "other.safetensors")
    assert [finding.tensor for finding in found_in(folder) if finding.severity == ERROR] == ["model.extra"]


def test_an_adapter_is_named(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]}))
    save_file({"x": torch.ones(1)}, folder / "adapter_model.safetensors")
    (finding,) = found_in(folder)
    assert (finding.severity, "merge it" in finding.what) == (WARNING, True)


def test_keys_without_effect_are_notes(folder: Path) -> None:
    (finding,) = found_in(configure(folder, an_unknown_key=1))
    assert (finding.severity, "an_unknown_key" in finding.what) == (NOTE, True)


# --- layouts ---------------------------------------------------------------------------------------------------------


def renamed(change: Callable[[str], str]) -> Callable[[Tensors], None]:
    def rename(tensors: Tensors) -> None:
        held = dict(tensors)
        tensors.clear()
        tensors.update({change(name): tensor for name, tensor in held.items()})

    return rename


def stack(tensors: Tensors) -> None:
    for layer in range(1, 5):
        each = [tensors.pop(expert(layer, number)) for number in range(16)]
        tensors[f"model.layers.{layer}.mlp.experts.up_proj"] = torch.stack(each)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (stack, "the experts of a layer are stacked in one tensor"),
        (renamed(lambda name: f"module.{name}"), "the names begin with 'module.model.'"),
        (renamed(lambda name: name.removeprefix("model.")), "the names lack their beginning"),
        (renamed(lambda name: name.replace("model.layers", "decoder.layers")), "the names are those of Megatron"),
        (renamed(lambda name: name.replace("q_a_proj", "q_a_proj.base_layer")), "adapter of peft that is not merged"),
    ],
)
def test_another_layout_is_one_error_with_what_to_do(
    folder: Path, change: Callable[[Tensors], object], words: str
) -> None:
    (finding,) = [f for f in examine_weights(plant(folder, change)).findings if f.severity == ERROR]
    assert (finding.check, words in finding.what, ";" in finding.what) == ("manifest", True, True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "model.safetensors is a pointer of Git LFS"),
        (b"GGUF\x03\0\0\0" + bytes(99), "model.safetensors is a GGUF file of llama.cpp in spite of its name"),
        (b"<!doctype html><html></html>", "model.safetensors is a web page"),
    ],
)
def test_a_file_of_another_kind_is_named_without_its_path(folder: Path, content: bytes, words: str) -> None:
    (folder / "model.safetensors").write_bytes(content)
    (finding,) = examine_weights(folder).findings
    assert finding.what.startswith(words)
    assert str(folder) not in finding.what


def test_shards_without_an_index_are_named(folder: Path) -> None:
    sharded(folder)
    (folder / "model.safetensors.index.json").unlink()
    (finding,) = examine_weights(folder).findings
    assert finding.what.startswith(
        "the folder holds neither model.safetensors nor model.safetensors.index.json: model-"
    )
    assert "copy it" in finding.what


def test_one_part_of_a_parallel_model_is_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model0-mp2.safetensors")
    (finding,) = examine_weights(folder).findings
    assert "one GPU's part of the model" in finding.what


def test_an_adapter_alone_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "who/what"}))
    with pytest.raises(CheckpointError, match="an adapter alone, of 'who/what'; merge it"):
        examine_weights(tmp_path)


def test_a_wrapped_configuration_whose_model_is_unknown_is_refused(folder: Path) -> None:
    configure(folder, model_type="kimi_k25", text_config={"model_type": "kimi_k9"})
    with pytest.raises(CheckpointError, match="kimi_k9"):
        examine_weights(folder)
