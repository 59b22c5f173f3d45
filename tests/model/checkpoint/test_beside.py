"""Files beside the weights are named: adapters, second weight sets, templates, vocabularies of another size."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint.beside import notes
from model.checkpoint.files import INDEX_NAME
from model.checkpoint.weights import inspect, save_model
from tests.models import random_model, tiny_config

ADAPTER = {"peft_type": "LORA", "r": 4, "target_modules": ["q_a_proj", "kv_b_proj"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(random_model(tiny_config()), tmp_path / "m", torch.float32)
    return tmp_path / "m"


def said(folder: Path) -> tuple[str, ...]:
    return notes(inspect(folder), folder)


def test_an_ordinary_folder_needs_no_note(folder: Path, tmp_path: Path) -> None:
    assert said(folder) == ()
    save_model(random_model(tiny_config()), tmp_path / "shards", torch.float32, max_shard_bytes=100_000)
    assert said(tmp_path / "shards") == ()


def test_an_adapter_beside_the_weights_is_said_not_to_be_applied(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER))
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(1)}, folder / "adapter_model.safetensors")
    (line,) = said(folder)
    assert line.startswith("the adapter beside the weights (LORA, rank 4 on q_a_proj, kv_b_proj) is not applied: ")
    assert "a run shows the base model alone" in line


def test_an_adapter_among_the_weights_is_said_not_to_be_applied(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"model.layers.0.self_attn.q_a_proj.lora_A.weight": torch.zeros(1)}, path)
    (line,) = said(folder)
    assert line.startswith("the LoRA adapter among the weights (1 tensor, the first is model.layers.0.self_attn.q_a")


def test_a_second_set_of_weights_is_named(folder: Path) -> None:
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    save_file({"a": torch.zeros(1)}, folder / "model-00001-of-00001.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert said(folder) == (
        f"model.safetensors is read; {INDEX_NAME} and the files that it names are not",
        "other weights lie beside those that are read (model.safetensors): model-00001-of-00001.safetensors",
        "weights in other forms are not read: pytorch_model.bin",
    )


def test_a_tensor_in_two_shards_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    save_model(random_model(tiny_config()), folder, torch.float32, max_shard_bytes=100_000)
    last = sorted(folder.glob("*.safetensors"))[-1]
    save_file(load_file(last) | {"model.embed_tokens.weight": torch.zeros(1)}, last)
    (line,) = said(folder)
    assert line == f"1 tensor in several files, such as model.embed_tokens.weight; {INDEX_NAME} says which is read"


@pytest.mark.parametrize("where", ["vocab", "added_tokens"])
def test_a_vocabulary_larger_than_the_model_is_named(folder: Path, where: str) -> None:
    rows = tiny_config().vocab_size
    vocabulary = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1, "content": "b"}]}
    if where == "vocab":
        vocabulary["model"] = {"vocab": {"a": rows + 4}}
    else:
        vocabulary["added_tokens"] = [{"id": rows + 4, "content": "b"}]
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    (line,) = said(folder)
    assert line == "tokenizer.json has ids up to 324, the model rows up to 319: it belongs to another model"


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {"vocab": []}}', '{"model": {"vocab": {"a": "b"}}}'])
def test_a_vocabulary_that_cannot_be_read_is_no_finding_here(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    assert said(folder) == ()


def test_a_byte_order_mark_is_left_out_and_said(folder: Path) -> None:
    path = folder / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert said(folder) == ("config.json begins with a byte order mark, which is left out",)
