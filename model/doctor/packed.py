"""Unpacks experts in MXFP4, as gpt-oss publishes them: 4-bit codes, and a scale of one byte for 32 of them.

Source: OCP Microscaling Formats (MX) Specification v1.0, sections 5.3.3 (E2M1) and 5.4.1 (E8M0).

Shape suffixes: R rows, S scales in a row, B bytes of a block, C columns.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from model.checkpoint.header import StoredTensor

_CODES, _SCALES = "_blocks", "_scales"  # ends of the published names
BLOCK = 32  # values that share a scale; two of them in a byte, the first in the lower four bits
_BIAS, _NAN = 127, 255  # of a scale's exponent
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
VALUES = torch.tensor([*_MAGNITUDES, *(-value for value in _MAGNITUDES)])


def scales_of(tensors: Mapping[str, StoredTensor], name: str) -> str | None:
    """Return the name of the scales of experts in MXFP4; None if a tensor holds no such experts."""
    scales = name.removesuffix(_CODES) + _SCALES
    if not name.endswith(_CODES) or scales not in tensors:
        return None
    stored, scale = tensors[name], tensors[scales]
    is_packed = len(stored.shape) == 4 and stored.shape == (*scale.shape, BLOCK // 2)
    return scales if is_packed and (stored.dtype, scale.dtype) == ("U8", "U8") else None


def unpack(codes_RSB: Tensor, scales_RS: Tensor) -> Tensor:
    """Return the values of one expert's matrix [R, C], in bfloat16, which holds every one exactly."""
    values_RSC = torch.stack((VALUES[(codes_RSB & 15).int()], VALUES[(codes_RSB >> 4).int()]), -1).flatten(-2)
    factors_RS = torch.exp2(scales_RS.float() - _BIAS).masked_fill(scales_RS == _NAN, torch.nan)
    return (values_RSC * factors_RS[..., None]).flatten(-2).bfloat16()
