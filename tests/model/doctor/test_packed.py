"""Experts in MXFP4 are unpacked as transformers unpacks them."""

from pathlib import Path

import pytest
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from model.checkpoint.header import StoredTensor
from model.doctor.packed import scales_of, unpack


def test_values_by_hand() -> None:
    codes = torch.zeros(1, 1, 16, dtype=torch.uint8)
    codes[0, 0, 0] = 0x72  # 1 first, from the lower bits, then 6
    codes[0, 0, 1] = 0xF9  # -0.5, then -6
    for exponent, factor in ((127, 1.0), (120, 2.0**-7)):
        values = unpack(codes, torch.tensor([[exponent]], dtype=torch.uint8))
        assert values[0, :5].tolist() == [factor * value for value in (1, 6, -0.5, -6, 0)]
    assert unpack(codes, torch.tensor([[255]], dtype=torch.uint8)).isnan().all()


def test_values_are_those_of_transformers() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(256, (2, 5, 3, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(20, 230, (2, 5, 3), generator=generator, dtype=torch.uint8)
    theirs = convert_moe_packed_tensors(codes, scales, dtype=torch.float32)
    for expert in range(2):
        assert torch.equal(unpack(codes[expert], scales[expert]).float(), theirs[expert].T)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [((4, 6, 2), "U8", "w_scales"), ((4, 6, 3), "U8", None), ((4, 6, 2), "BF16", None), (None, "", None)],
)
def test_scales_must_fit(shape: tuple[int, ...] | None, dtype: str, expected: str | None) -> None:
    tensors = {"w_blocks": StoredTensor("w_blocks", "U8", (4, 6, 2, 16), Path("f"), 0, 0)}
    if shape:
        tensors["w_scales"] = StoredTensor("w_scales", dtype, shape, Path("f"), 0, 0)
    assert scales_of(tensors, "w_blocks") == expected
