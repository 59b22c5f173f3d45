"""Finds FP8 values that were stored in a wider dtype without their scales, and scales that no FP8 weight uses.

A conversion that casts FP8 to bfloat16 and forgets the scales leaves matrices whose values are all FP8 numbers with
magnitudes up to 448. Weights multiplied by their scales have magnitudes of about 0.02.

Thresholds: a matrix counts as unscaled if every sampled value is an E4M3 number, the sample has at least 16 different
magnitudes, and the root mean square is at least 8. FP8 codes of random weights have a root mean square of 90 to 150;
matrices of the embedded models reach 0.11.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from model.checkpoint.header import SCALED_DTYPE, StoredTensor
from model.checkpoint.names import weight_of_scale
from model.doctor.findings import ERROR, WARNING, Finding
from model.doctor.tensors import Scanned
from model.doctor.values import described

NAME = "fp8 values"
SMALLEST_RMS, FEWEST_MAGNITUDES, _LARGEST = 8.0, 16, 448.0


def is_unscaled(tensor: Scanned) -> bool:
    """Whether a matrix in a dtype other than FP8 holds FP8 values that were not multiplied by their scales."""
    sample = tensor.sample
    if tensor.stored.dtype == SCALED_DTYPE or len(tensor.stored.shape) != 2 or not tensor.rms >= SMALLEST_RMS:
        return False
    if not np.isfinite(sample).all() or np.abs(sample).max(initial=0.0) > _LARGEST:
        return False
    codes = torch.from_numpy(sample).to(torch.float8_e4m3fn).float().numpy()
    return bool((codes == sample).all()) and len(np.unique(np.abs(sample))) >= FEWEST_MAGNITUDES


def check_unscaled(tensors: Sequence[Scanned], stored: Mapping[str, StoredTensor]) -> Iterator[Finding]:
    """Yield one finding on all tensors of unscaled FP8 values, and one on scales that no FP8 weight uses.

    Args:
        tensors: the tensors for which `is_unscaled` is true.
        stored: every tensor of the folder by its published name.
    """
    names = {tensor.stored.name for tensor in tensors}
    unused = [name for name in stored if _is_unused(name, stored)]
    beside = sum(weight_of_scale(name) in names for name in unused)
    if tensors:
        first = tensors[0]
        what = f"{len(tensors):,} matrices hold FP8 numbers in {first.stored.dtype} without their scales"
        meaning = (
            "FP8 values were cast and not multiplied by their scales, so that these weights are thousands of times too "
            "large. Convert again from the FP8 checkpoint."
        )
        evidence = {
            "rms": float(np.median([tensor.rms for tensor in tensors])),
            "largest": max(tensor.largest for tensor in tensors),
            "scales beside them": beside,
        }
        place = first.place
        yield Finding(
            ERROR, NAME, f"{what}, the first is {described(first)}", meaning, evidence, place.layer, place.expert,
            first.stored.name,
        )  # fmt: skip
    if left := [name for name in unused if weight_of_scale(name) not in names]:
        what = f"{len(left):,} scales belong to no FP8 weight, the first is {left[0]}"
        meaning = (
            "The weights were converted and the scales left behind, or weights are missing. A loader that multiplies "
            "by them makes the weights wrong."
        )
        yield Finding(WARNING, NAME, what, meaning, {"scales": len(left)}, tensor=left[0])


def _is_unused(name: str, stored: Mapping[str, StoredTensor]) -> bool:
    """Whether a tensor holds the scales of a weight that is absent, or that is stored in a dtype other than FP8."""
    weight = weight_of_scale(name)
    if weight is None:
        return False
    packed = f"{weight}_packed" in stored  # integers that the scale belongs to
    return not packed and (weight not in stored or stored[weight].dtype in ("BF16", "F16", "F32"))
