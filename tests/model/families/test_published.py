"""Weights of quantised formats are decoded to what the format says."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.checkpoint.fp8 import dequantise, quantise
from model.families.folder import open_folder
from tests.families import saved

CPU = torch.device("cpu")
# The 16 values of FP4 (E2M1), the sign in the highest bit. Source: OCP Microscaling Formats 1.0, section 5.3.3.
FP4 = torch.tensor([sign * value for sign in (1, -1) for value in (0, 0.5, 1, 1.5, 2, 3, 4, 6)])


def quantised(family: str, folder: Path, tensors: Mapping[str, Tensor], settings: dict[str, Any]) -> Path:
    shutil.copytree(saved(family), folder)
    save_file(dict(tensors), folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config |= {"dtype": "bfloat16", "quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_block_fp8_is_decoded(tmp_path: Path) -> None:
    original, tensors, decoded = load_file(saved("qwen3_moe") / "model.safetensors"), {}, {}
    for name, weight in original.items():
        if not name.endswith("proj.weight"):
            tensors[name] = weight
            continue
        tensors[name], scale = quantise(weight, torch.float32)
        tensors[f"{name}_scale_inv"] = scale
        decoded[name] = torch.empty_like(weight)
        dequantise(tensors[name], scale, decoded[name])
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    folder = quantised("qwen3_moe", tmp_path / "model", tensors, settings)
    opened = open_folder(folder, CPU)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(opened.model.state_dict()[name], decoded[name].bfloat16())
    down = opened.model.state_dict()["model.layers.1.mlp.experts.down_proj"][5]
    assert torch.equal(down, decoded["model.layers.1.mlp.experts.5.down_proj.weight"].bfloat16())
    assert opened.notes == ("weights are stored as fp8 and decoded on loading",)
    wide = open_folder(folder, CPU, torch.float32).model
    assert {tensor.dtype for tensor in wide.state_dict().values()} == {torch.float32}
    assert wide(torch.arange(5)[None]).logits.isfinite().all()


def test_mxfp4_is_decoded(tmp_path: Path) -> None:
    tensors, decoded = {}, {}
    for name, weight in load_file(saved("gpt_oss") / "model.safetensors").items():
        if weight.dim() != 3:
            tensors[name] = weight
            continue
        experts, wide, out = weight.shape
        codes = torch.randint(0, 16, (experts, out, wide // 32, 32))
        scales = torch.randint(120, 127, (experts, out, wide // 32), dtype=torch.uint8)
        tensors[f"{name}_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
        tensors[f"{name}_scales"] = scales
        values = FP4[codes] * torch.exp2(scales.float() - 127)[..., None]
        decoded[name] = values.reshape(experts, out, wide).transpose(1, 2)
    opened = open_folder(quantised("gpt_oss", tmp_path / "model", tensors, {"quant_method": "mxfp4"}), CPU)
    state = opened.model.state_dict()
    assert decoded.keys() <= state.keys()
    assert all(torch.equal(state[name].float(), values) for name, values in decoded.items())
