"""Block FP8, as DeepSeek publishes its checkpoints: one byte per weight, one scale per block of 128 x 128 weights.

Weights [R, C] are E4M3, scales [ceil(R / 128), ceil(C / 128)]; a weight's value is
`weight[r, c] * scale[r // 128, c // 128]`. Blocks start at the top left, so the last blocks may be smaller (576 rows
have 5 rows of scales). Weights are multiplied by scales, although the name of a scale ends in `_scale_inv`. Scales are
fp32, or powers of two in one byte (UE8M0).

Decoding shifts integers: the exponent and fraction bits of a byte, moved to those of an fp32 number, give the weight
times 2^-120. Measured on an AMD EPYC with AVX2, 2,048 x 7,168 weights, while another program used one of the two cores:
one thread decodes 1.1 billion weights a second to bfloat16 and 1.2 billion to float32, two threads 0.9 billion.
PyTorch's own conversion decodes 0.2 billion. A third of the time to bfloat16 is the rounding from fp32. Products in
bfloat16 would avoid the rounding and decode 1.5 billion a second, but are exact only if every scale is a power of two.

Shape suffixes: R rows, C columns, P blocks of rows, Q blocks of columns.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 3.3.2; the released `config.json`, `quantization_config`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from model.checkpoint.header import CheckpointError

BLOCK = 128
QUANTIZATION: dict[str, Any] = {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "activation_scheme": "dynamic",
    "weight_block_size": [BLOCK, BLOCK],
}
SCALE_DTYPES = (torch.float32, torch.float8_e8m0fnu)

_LARGEST = 448.0  # largest finite E4M3 number
_NAN = 0x7F  # bits of NaN without the sign
_EXPONENT_GAP = 2.0**120  # fp32's exponent counts from -127, E4M3's from -7
_SHIFT = 20  # bits between the end of fp32's fraction and the end of E4M3's
_SIGN_EXPONENT_FRACTION = (0x7F << _SHIFT) - 0x8000_0000  # bit 31 and bits 20 to 26, as a signed number
_FOLDABLE = 2.0**7  # larger scales would overflow fp32 when multiplied by the gap


def grid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the scales of a matrix.

    >>> grid((576, 256))
    (5, 2)
    """
    return tuple(-(-size // BLOCK) for size in shape)


def quantization_problem(published: Mapping[str, Any]) -> str:
    """Return why the `quantization_config` of a config.json is not supported; empty if it is supported or absent."""
    stated = published.get("quantization_config")
    if stated is None:
        return ""
    if not isinstance(stated, Mapping):
        return f"quantization_config must be an object, not {stated!r}"
    for key in ("quant_method", "fmt", "weight_block_size"):
        value = stated.get(key, QUANTIZATION["fmt"] if key == "fmt" else None)
        if value != QUANTIZATION[key]:
            return f"quantization_config: {key} {value!r} is not supported; only {QUANTIZATION[key]!r} is"
    return ""


def dequantise(weight_RC: Tensor, scale_PQ: Tensor, out_RC: Tensor) -> None:
    """Fill `out_RC` with weights times scales, computed in fp32 and converted to the dtype of `out_RC`.

    Args:
        weight_RC: weights in float8_e4m3fn.
        scale_PQ: scales in float32 or float8_e8m0fnu.
        out_RC: the result, in float32, bfloat16 or float16; products beyond the range of its dtype become infinite.

    Raises:
        CheckpointError: the scales do not have the shape that `grid` returns, or a weight or scale is not finite.
    """
    wanted = grid(tuple(weight_RC.shape))
    if tuple(scale_PQ.shape) != wanted:
        raise CheckpointError(f"the scales have shape {list(scale_PQ.shape)}, not {list(wanted)}")
    if out_RC.stride(0) == 1 < out_RC.stride(1):  # column-major: transposing the bytes moves a quarter of the memory
        turned_CR = weight_RC.view(torch.uint8).T.contiguous().view(weight_RC.dtype)
        return dequantise(turned_CR, scale_PQ.T.contiguous(), out_RC.T)
    scale_PQ = scale_PQ.float()
    if not scale_PQ.isfinite().all():
        raise CheckpointError("a scale is NaN or infinite")
    is_foldable = bool((scale_PQ.abs() < _FOLDABLE).all())
    if is_foldable:
        scale_PQ = scale_PQ * _EXPONENT_GAP
    rows = zip(weight_RC.view(torch.int8).split(BLOCK), scale_PQ, out_RC.split(BLOCK), strict=True)
    for bytes_RC, scale_Q, part_RC in rows:  # 128 rows at a time stay in the CPU's cache
        decoded_RC = _decode(bytes_RC)
        if not is_foldable:
            decoded_RC *= _EXPONENT_GAP
        decoded_RC *= scale_Q.repeat_interleave(BLOCK)[: weight_RC.shape[1]]
        part_RC.copy_(decoded_RC)
    return None


def _decode(bytes_RC: Tensor) -> Tensor:
    """Return the decoded weights times 2^-120, in fp32; the result is exact, also for subnormal numbers."""
    if (bytes_RC & _NAN).amax() == _NAN:
        raise CheckpointError("a weight is NaN")
    bits_RC = bytes_RC.to(torch.int32)  # copies the sign to all higher bits; the mask keeps only bit 31
    bits_RC <<= _SHIFT
    bits_RC &= _SIGN_EXPONENT_FRACTION
    return bits_RC.view(torch.float32)


def quantise(weight_RC: Tensor, scale_dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return weights [R, C] in E4M3 and their scales [P, Q]; the largest weight of a block becomes at most 448.

    Args:
        weight_RC: finite weights.
        scale_dtype: float32, or float8_e8m0fnu, which rounds every scale up to a power of two.

    Raises:
        ValueError: a weight is not finite, or scales cannot have that dtype.
    """
    if scale_dtype not in SCALE_DTYPES:
        raise ValueError(f"scales cannot be {scale_dtype}")
    if not weight_RC.isfinite().all():
        raise ValueError("only finite weights can be quantised")
    num_rows, num_columns = weight_RC.shape
    num_row_blocks, num_column_blocks = grid((num_rows, num_columns))
    padding = (0, num_column_blocks * BLOCK - num_columns, 0, num_row_blocks * BLOCK - num_rows)
    blocks = torch.nn.functional.pad(weight_RC.float(), padding).unflatten(1, (-1, BLOCK)).unflatten(0, (-1, BLOCK))
    largest_PQ = blocks.abs().amax((1, 3))
    scale_PQ = torch.where(largest_PQ > 0, largest_PQ / _LARGEST, 1.0)
    if scale_dtype != torch.float32:
        scale_PQ = scale_PQ.log2().ceil().exp2()
    scaled = (blocks / scale_PQ[:, None, :, None]).clamp(-_LARGEST, _LARGEST)
    scaled_RC = scaled.flatten(2).flatten(0, 1)[:num_rows, :num_columns]
    return scaled_RC.to(torch.float8_e4m3fn).contiguous(), scale_PQ.to(scale_dtype)
