"""Checks the blocks of FP8 matrices: blocks that are saturated, and blocks whose scale does not fit their neighbours.

With the right scale, the dequantised weights of a block are about as large as those of its neighbours. The expected
size of a block follows from medians: of its matrix, of its row and column of blocks, and of the blocks at the same
place in the other experts.

Thresholds: a block is mis-scaled if its size (root mean square) differs from the expected size by a factor of 2.5 and
by 8 robust deviations; among at least 16 blocks, a factor of 1.7 already gets a warning. The embedded models reach a
factor of 1.95, in a matrix of 4 blocks, and 1.04 among 16 or more. A block is saturated if 4 % of its codes are at the
ends of the range; uniform weights reach 3.6 %, Gaussian weights 0.1 %. A block has little range if its largest code is
at most a 16th of the median of the largest codes in the matrix.

Shape suffixes: S matrices (one, or the same projection of all experts of a layer), P rows and Q columns of blocks.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 3.3.2.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from model.doctor.findings import ERROR, WARNING, Finding, shortened
from model.doctor.robust import deviations
from model.doctor.tensors import Scanned
from model.doctor.values import described

NAME = "fp8 blocks"
RATIO, DEVIATION, FLOOR = 2.5, 8.0, 0.05
SMALL_RATIO, MANY_BLOCKS = 1.7, 16
SATURATED, LITTLE_RANGE = 0.04, 16.0
FEWEST = 3  # fewest blocks along an axis, or experts, with a meaningful median

_MISSCALED = (
    "A scale that was multiplied twice, left out, rounded to another power of two, or read with rows for columns: all "
    "weights of the block are wrong by the same factor."
)


def check_blocks(tensors: Sequence[Scanned]) -> Iterator[Finding]:
    """Yield the findings on the blocks of FP8 matrices.

    Args:
        tensors: one matrix, or the same projection of all experts of a layer; all have one shape.
    """
    measured = [tensor for tensor in tensors if tensor.blocks is not None]
    if not measured:
        return
    rms_SPQ = np.stack([tensor.blocks.rms for tensor in measured if tensor.blocks is not None])
    apart_SPQ, spread_SPQ = _residuals(rms_SPQ)
    saturated_SPQ = np.stack([tensor.blocks.saturated for tensor in measured if tensor.blocks is not None]) > SATURATED
    # Codes at the end of the range enlarge a block, so the finding on its saturation takes the place of the warning.
    least = np.where(saturated_SPQ | (rms_SPQ.size < MANY_BLOCKS), RATIO, SMALL_RATIO)
    far = (np.abs(apart_SPQ) >= np.log(least)) & (np.abs(spread_SPQ) >= DEVIATION)
    misscaled = [
        _misscaled(measured[s], p, q, float(np.exp(apart_SPQ[s, p, q])), float(spread_SPQ[s, p, q]))
        for s, p, q in np.argwhere(far).tolist()
    ]
    yield from shortened(misscaled, f"mis-scaled blocks in {_family(measured)}")
    yield from shortened([f for tensor in measured for f in _saturated(tensor)], "saturated blocks")
    yield from shortened([f for tensor in measured for f in _little_range(tensor)], "blocks of little range")


def _residuals(rms_SPQ: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log(size / expected size) of each block, [S, P, Q], plain and in robust deviations; 0 for zero blocks."""
    known = rms_SPQ > 0
    logs = np.log(np.where(known, rms_SPQ, 1.0))
    logs = np.where(known, logs, np.nan)
    with np.errstate(invalid="ignore"):
        apart = logs - _median(logs, (1, 2))
        if rms_SPQ.shape[2] >= FEWEST:
            apart = apart - _median(apart, (2,))
        if rms_SPQ.shape[1] >= FEWEST:
            apart = apart - _median(apart, (1,))
        if rms_SPQ.shape[0] >= FEWEST and rms_SPQ.shape[1] * rms_SPQ.shape[2] > 1:
            apart = apart - _median(apart, (0,))
    apart = np.nan_to_num(apart, nan=0.0)
    return apart, deviations(apart.reshape(1, -1), FLOOR).reshape(apart.shape)


def _median(logs: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    filled = np.where(np.isnan(logs).all(axis=axes, keepdims=True), 0.0, logs)
    return np.nanmedian(filled, axis=axes, keepdims=True)


def _misscaled(tensor: Scanned, row: int, column: int, ratio: float, deviation: float) -> Finding:
    assert tensor.blocks is not None
    blocks, place = tensor.blocks, tensor.place
    what = (
        f"{described(tensor)}: block {row},{column} is {ratio:.3g} times as large as its neighbours, "
        f"its scale is {blocks.scale[row, column]:.3g}"
    )
    evidence = {
        "block row": row,
        "block column": column,
        "scale": float(blocks.scale[row, column]),
        "median scale": float(np.median(blocks.scale)),
        "ratio": ratio,
        "robust deviations": deviation,
    }
    severity = ERROR if max(ratio, 1 / ratio) >= RATIO else WARNING
    return Finding(severity, NAME, what, _MISSCALED, evidence, place.layer, place.expert, tensor.stored.name)


def _saturated(tensor: Scanned) -> Iterator[Finding]:
    assert tensor.blocks is not None
    for row, column in np.argwhere(tensor.blocks.saturated > SATURATED).tolist():
        share = float(tensor.blocks.saturated[row, column])
        what = f"{described(tensor)}: {share:.1%} of block {row},{column} stand at the end of FP8's range"
        meaning = "The scale was too small when the block was written, and its larger weights were cut off."
        evidence = {"block row": row, "block column": column, "share": share}
        yield Finding(
            WARNING, NAME, what, meaning, evidence, tensor.place.layer, tensor.place.expert, tensor.stored.name
        )


def _little_range(tensor: Scanned) -> Iterator[Finding]:
    assert tensor.blocks is not None
    largest = tensor.blocks.largest
    usual = float(np.median(largest))
    for row, column in np.argwhere((largest > 0) & (largest * LITTLE_RANGE <= usual)).tolist():
        what = (
            f"{described(tensor)}: the largest FP8 code of block {row},{column} is {largest[row, column]:.3g}, of 448"
        )
        meaning = "The scale was too large when the block was written: its small weights have lost bits, or became 0."
        evidence = {"block row": row, "block column": column, "largest code": float(largest[row, column])}
        yield Finding(
            WARNING, NAME, what, meaning, evidence, tensor.place.layer, tensor.place.expert, tensor.stored.name
        )


def _family(tensors: Sequence[Scanned]) -> str:
    place = tensors[0].place
    return described(tensors[0]) if len(tensors) == 1 else f"L{place.layer} {place.part.removesuffix('.weight')}"
