"""Weights of quantised formats are decoded to what the format says."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.checkpoint.fp8 import dequantise
from model.families.folder import open_folder
from model.families.placement import size_of
from tests.families import saved, saved_fp8

CPU = torch.device("cpu")
# The 16 values of FP4 (E2M1), the sign in the highest bit. Source: OCP Microscaling Formats 1.0, section 5.3.3.
FP4 = torch.tensor([sign * value for sign in (1, -1) for value in (0, 0.5, 1, 1.5, 2, 3, 4, 6)])


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict([*model.named_parameters(), *model.named_buffers()])


def quantised(family: str, folder: Path, tensors: Mapping[str, Tensor], settings: dict[str, Any]) -> Path:
    shutil.copytree(saved(family), folder)
    save_file(dict(tensors), folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config |= {"dtype": "bfloat16", "quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_block_fp8_is_decoded() -> None:
    opened = open_folder(saved_fp8("qwen3_moe"), CPU)
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.experts.5.down_proj.weight"):
        stored, expert = load_file(saved_fp8("qwen3_moe") / "model.safetensors"), name.split(".")[5]
        decoded = torch.empty(stored[name].shape)
        dequantise(stored[name], stored[f"{name}_scale_inv"], decoded)
        weights = opened.model.state_dict()[name.replace(f"{expert}.down_proj.weight", "down_proj")]
        assert torch.equal(weights[int(expert)] if expert.isdigit() else weights, decoded.bfloat16())
    assert opened.notes == ("weights are stored as fp8 and decoded on loading",)
    assert opened.model(torch.arange(5)[None]).logits.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_decoded_tensors_have_the_dtypes_of_the_unquantised_family(dtype: torch.dtype) -> None:
    model, plain = (
        open_folder(folder, CPU, dtype).model for folder in (saved_fp8("deepseek_v3"), saved("deepseek_v3"))
    )
    dtypes, expected = ({name: tensor.dtype for name, tensor in tensors(one).items()} for one in (model, plain))
    assert dtypes == expected
    buffers = dict(plain.named_buffers())
    assert torch.float32 in {buffer.dtype for buffer in buffers.values()}
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert model(torch.arange(5)[None]).logits.isfinite().all()


def test_placement_counts_the_dtype_that_was_asked_for() -> None:
    folder = saved_fp8("qwen3_moe")
    half = size_of(open_folder(folder, CPU).model)
    wide = open_folder(folder, CPU, torch.float32, limit_bytes=round(1.8 * half))
    assert wide.offloaded
    assert torch.equal(
        *(one.model(torch.arange(5)[None]).logits for one in (wide, open_folder(folder, CPU, torch.float32)))
    )


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
