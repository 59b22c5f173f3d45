"""FP8 codes in a wider dtype, and scales without FP8 weights."""

from pathlib import Path

import pytest
import torch

from model.checkpoint.fp8 import quantise
from model.checkpoint.header import StoredTensor
from model.checkpoint.names import place_of
from model.doctor.findings import ERROR, NOTE, WARNING
from model.doctor.tensors import Scanned, scan
from model.doctor.unscaled import is_unscaled
from model.doctor.weights import examine_weights
from tests.model.doctor.checkpoints import FP8, Tensors, expert, plant, written
from tests.models import random_model, tiny_config


def scanned(values: torch.Tensor, dtype: str = "BF16") -> Scanned:
    name = "model.layers.1.self_attn.o_proj.weight"
    return scan(StoredTensor(name, dtype, tuple(values.shape), Path("x"), 0, 0), place_of(name), values, None)


def gaussian(seed: int = 0) -> torch.Tensor:
    return 0.02 * torch.randn(512, 512, generator=torch.Generator().manual_seed(seed))


def codes_of(weight: torch.Tensor, how: str) -> torch.Tensor:
    if how == "block":
        return quantise(weight)[0].float()
    largest = weight.abs().amax(1, keepdim=True) if how == "row" else weight.abs().max()
    return (weight / largest * 448).to(torch.float8_e4m3fn).float()


@pytest.mark.parametrize("how", ["block", "row", "matrix"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_codes_are_told_from_weights(how: str, dtype: torch.dtype) -> None:
    codes = codes_of(gaussian(), how)
    assert 90 < float(codes.pow(2).mean().sqrt()) < 155  # as the docstring says
    assert is_unscaled(scanned(codes.to(dtype)))


@pytest.mark.parametrize(
    "healthy",
    [
        gaussian().bfloat16(),
        1000 * gaussian().bfloat16(),  # large, but not on the grid
        torch.full((512, 512), 64.0),  # on the grid, but one value
        codes_of(gaussian(), "block") * 2.0**-12,  # scales that are powers of two leave values on the grid, yet small
    ],
)
def test_weights_are_no_codes(healthy: torch.Tensor) -> None:
    assert not is_unscaled(scanned(healthy))


@pytest.fixture
def fp8(tmp_path: Path) -> Path:
    return written(random_model(tiny_config(**FP8)), tmp_path / "model", fp8=True)


def cast(tensors: Tensors, scales: bool) -> None:
    for name, tensor in list(tensors.items()):
        if tensor.dtype == torch.float8_e4m3fn:
            tensors[name] = tensor.bfloat16()
        elif name.endswith("_scale_inv") and not scales:
            del tensors[name]


@pytest.mark.parametrize("scales", [True, False])
def test_a_cast_without_scales_is_one_error(fp8: Path, scales: bool) -> None:
    plant(fp8, lambda tensors: cast(tensors, scales))
    report = examine_weights(fp8)
    (found,) = [f for f in report.findings if f.check == "fp8 values"]
    assert (found.severity, found.evidence["scales beside them"] > 0) == (ERROR, scales)
    assert 90 < float(found.evidence["rms"]) < 260  # uniform weights have 259


def test_scales_that_were_left_behind_are_found(fp8: Path) -> None:
    name = expert(1, 3)
    plant(fp8, lambda tensors: tensors.update({name: 0.02 * torch.randn(384, 384).bfloat16()}))
    found = [f for f in examine_weights(fp8).findings if f.check == "fp8 values"]
    assert [(f.severity, f.tensor, f.evidence) for f in found] == [(WARNING, f"{name}_scale_inv", {"scales": 1})]


@pytest.mark.parametrize("form", ["weight_scale", "weight_zero_point", "weight_packed", "qzeros", "input_scale"])
def test_what_stands_beside_weights_is_no_expert(tmp_path: Path, form: str) -> None:
    folder = written(random_model(tiny_config()), tmp_path / "model")
    beside = {expert(2, e).replace("weight", form): torch.full((4, 4), 0.01).bfloat16() for e in range(16)}
    plant(folder, lambda tensors: tensors.update(beside))
    found = [f for f in examine_weights(folder).findings if f.severity != NOTE]
    assert {f.check for f in found} <= {"fp8 values"}  # no copies, no sizes
