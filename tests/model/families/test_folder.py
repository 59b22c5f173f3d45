"""A folder of any family opens as transformers itself would open it, or is refused in one line."""

import json
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from model.checkpoint.header import CheckpointError
from model.families.folder import open_folder
from model.families.stored import LoadingStopped
from tests.families import saved

CPU = torch.device("cpu")
ROUTER = "model.layers.1.mlp.gate.weight"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, num_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("qwen3_moe")
    Qwen3MoeForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def change_tensors(folder: Path, add: dict[str, torch.Tensor] | None = None, drop: str = "") -> None:
    tensors = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if name != drop}
    save_file(tensors | (add or {}), folder / "model.safetensors")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(12)[None]).logits


def test_model_is_the_one_that_transformers_opens(folder: Path) -> None:
    opened = open_folder(folder, CPU)
    assert torch.equal(logits(opened.model), logits(AutoModelForCausalLM.from_pretrained(folder)))
    assert not opened.model.training
    assert not any(parameter.requires_grad for parameter in opened.model.parameters())
    assert opened.config["model_type"] == "qwen3_moe"
    assert opened.notes == ()
    assert not opened.offloaded


def test_layers_on_the_disk_give_the_same_logits(folder: Path) -> None:
    opened = open_folder(folder, CPU, limit_bytes=50_000)
    assert opened.offloaded
    assert "wait in" in opened.notes[0]
    assert torch.equal(logits(opened.model), logits(open_folder(folder, CPU).model))


def test_limit_below_the_embedding_is_refused_with_both_sizes(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^\d+\.[0-9] MB of the weights lie outside .* 0\.0 MB fit"):
        open_folder(folder, CPU, limit_bytes=1)


def test_family_that_cannot_wait_on_the_disk_is_refused() -> None:
    with pytest.raises(
        CheckpointError, match="'dbrx' cannot compute with its weights on several devices or on the disk"
    ):
        open_folder(saved("dbrx"), CPU, limit_bytes=1_000_000)


def test_overwritten_router_tensors_are_put_back() -> None:
    opened = open_folder(saved("zaya"), CPU)
    stored = load_file(saved("zaya") / "model.safetensors")
    name = "model.layers.0.mlp.gate.balancing_biases"
    assert torch.equal(opened.model.state_dict()[name], stored[name])
    assert opened.notes[0].startswith(f"transformers replaced 4 router tensors on loading, such as {name}")


def test_dtype_is_as_published_or_as_asked_for(folder: Path) -> None:
    change_config(folder, dtype="bfloat16")
    assert open_folder(folder, CPU).model.dtype == torch.bfloat16
    assert open_folder(folder, CPU, torch.float32).model.dtype == torch.float32


def test_no_socket_is_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    change_config(folder, _attn_implementation="org/kernel", attn_implementation="org/kernel:f")
    opened = open_folder(folder, CPU)
    assert opened.model.config._attn_implementation == "sdpa"
    assert opened.notes == ("config.json names the kernel 'org/kernel', which is not loaded; PyTorch's own is used",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "qwen9_moe", "transformers_version": "9.1"},
            "not know model_type 'qwen9_moe' (the file was",
        ),
        ({"model_type": "odd", "auto_map": {"AutoModel": "odd.Odd"}}, "'odd' needs Python code from its folder"),
        ({"model_type": "qwen3"}, "no layer of 'qwen3' hands a router's selection to experts"),
        ({"model_type": "clip"}, "no model of 'clip' that generates text"),
        ({"model_type": None}, "model_type is missing"),
        ({"num_experts": "many"}, "is not a configuration of 'qwen3_moe'"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quant_method 'gptq' are not read; take"),
        ({"quantization_config": {"quant_method": "new"}}, "quant_method 'new' are not read; take"),
        ({"quantization_config": {"quant_method": ["fp8"]}}, "quant_method ['fp8'] are not read; take"),
        ({"vision_config": {"quantization_config": {"quant_method": "gptq"}}}, "quant_method 'gptq' are not read"),
        ({"rope_theta": {"__float__": "abc"}}, "__float__ states 'abc', which is not a number"),
        ({"num_hidden_layers": 1_001}, "num_hidden_layers means 1,001 layers; at most 1,000 are built"),
        ({"vision_config": {"depth": 10**9}}, "depth means 1,000,000,000 layers; at most 1,000 are built"),
        ({"layer_types": ["full_attention"] * 1_001}, "layer_types means 1,001 layers; at most 1,000 are built"),
        ({"num_hidden_layers": 3}, "model.layers.2.input_layernorm.weight is missing"),
        ({"moe_intermediate_size": 8}, "has shape [4, 32, 16], the configuration asks for [4, 32, 8]"),
    ],
)
def test_unusable_configuration_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(CheckpointError) as raised:
        open_folder(folder, CPU)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_and_surplus_tensors_are_named(folder: Path) -> None:
    change_tensors(folder, drop=ROUTER)
    with pytest.raises(CheckpointError, match=f"{ROUTER} is missing, so its values would be made up"):
        open_folder(folder, CPU)
    change_tensors(folder, add={ROUTER: torch.zeros(4, 32), "model.layers.1.mlp.extra.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="model.layers.1.mlp.extra.weight has no place in the model"):
        open_folder(folder, CPU)


def test_prediction_module_is_noted(folder: Path) -> None:
    change_tensors(folder, add={"model.layers.2.eh_proj.weight": torch.zeros(1)})
    note = "1 tensors of multi-token prediction are not run, such as model.layers.2.eh_proj.weight"
    assert open_folder(folder, CPU).notes == (note,)


def test_pickle_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pytorch_model.bin, a pickled file"):
        open_folder(folder, CPU)


def test_loading_reports_progress_and_stops(folder: Path) -> None:
    cancel, calls = threading.Event(), []

    def on_progress(done: int, total: int) -> None:
        calls.append((done, total))
        if done > total / 2:
            cancel.set()

    with pytest.raises(LoadingStopped, match="nothing was kept"):
        open_folder(folder, CPU, on_progress=on_progress, cancel=cancel)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[-1][0] < calls[-1][1]
    calls.clear()
    open_folder(folder, CPU, on_progress=lambda *both: calls.append(both))
    assert calls[-1][0] == calls[-1][1]
