"""Measures one tensor while it is in memory, so that the tensor itself can be freed.

The tensor is read once, in chunks that fit the processor's cache. The result holds raw statistics: norm, broken values,
a checksum of the bytes, a sample of the values, and statistics of each block of an FP8 matrix. `values`, `gate`,
`bias`, `blocks` and `experts` interpret the statistics.

Shape suffixes: R rows, C columns (some padded to whole blocks), P blocks of rows, Q blocks of columns.
"""

import dataclasses
import functools
import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from model.checkpoint.fp8 import BLOCK, dequantise, grid
from model.checkpoint.header import StoredTensor
from model.checkpoint.names import BIAS_KIND, ROUTER_KIND, Place

SAMPLE = 4096  # sampled values per tensor; a cosine of two samples has an error of about 1/64
_CHUNK = 1 << 22  # values per chunk
_MAGNITUDE, _SATURATED, _NAN = 0x7F, 0x7E, 0x7F  # bits of an E4M3 byte: mask of the magnitude, 448, NaN
_CODES = torch.arange(_NAN, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
_SQUARABLE = 1e15  # sums of squares of values up to this fit fp32


@dataclasses.dataclass(frozen=True, slots=True)
class Blocks:
    """Statistics of each block of 128 x 128 weights of an FP8 matrix, each [P, Q]."""

    rms: np.ndarray  # root mean square of the weights, scale included; NaN if the scale is unusable
    largest: np.ndarray  # largest magnitude of the codes, at most 448
    saturated: np.ndarray  # share of codes at +-448
    scale: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Scanned:
    """The statistics of one tensor."""

    stored: StoredTensor
    place: Place
    num_nan: int
    num_infinite: int
    num_zero: int
    first_broken: tuple[int, ...]  # index of the first NaN or infinite value; empty without one
    bad_scales: int  # scales that are NaN, infinite, zero or negative
    rms: float  # root mean square of the finite values; NaN if the scales are unusable
    largest: float  # largest magnitude of the finite values
    digest: bytes  # checksum of the stored bytes, scales included
    sample: np.ndarray  # values at the same positions for every tensor of this shape, fp32
    blocks: Blocks | None
    values: np.ndarray | None  # all values of a router's weight or bias, fp32; None for other tensors

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.stored.shape)

    @property
    def typical(self) -> float:
        """The median root mean square of the blocks, which one bad block does not change; without blocks, `rms`."""
        return self.rms if self.blocks is None else float(np.median(self.blocks.rms))


@np.errstate(all="ignore")
def scan(stored: StoredTensor, place: Place, raw: Tensor, scale: Tensor | None) -> Scanned:
    """Return the statistics of one tensor.

    Args:
        stored: entry of the tensor in the header.
        place: its place in the model.
        raw: the stored values.
        scale: block scales of an FP8 matrix, of the right shape; None without scales.
    """
    counts, blocks = _Counts(), None
    if raw.dtype == torch.float8_e4m3fn and raw.numel():
        blocks = _scan_fp8(raw if raw.dim() == 2 else raw.reshape(1, -1), scale, counts)
    else:
        _scan_plain(raw, counts)
    index = () if counts.first < 0 else tuple(int(i) for i in np.unravel_index(counts.first, stored.shape))
    size = max(1, math.prod(stored.shape))
    bad_scales = 0 if scale is None else int((~(scale.float().isfinite() & (scale.float() > 0))).sum())
    return Scanned(
        stored, place, counts.nan, counts.infinite, counts.zero, index, bad_scales,
        rms=math.sqrt(counts.squares / size), largest=counts.largest, digest=_digest(raw, scale),
        sample=_sample(raw, scale), blocks=blocks,
        values=raw.float().numpy() if place.kind in (ROUTER_KIND, BIAS_KIND) else None,
    )  # fmt: skip


def scan_experts(stored: StoredTensor, place: Place, raw: Tensor) -> list[Scanned]:
    """Return the statistics of each expert in a tensor that stacks the experts of a layer along its first axis.

    Args:
        stored: entry of the tensor in the header.
        place: its place; `stacked` divides the first axis.
        raw: the stored values, not in FP8.
    """
    experts = raw.reshape(place.stacked, -1, *raw.shape[1:])
    if experts.shape[1] == 1:
        experts = experts.squeeze(1)
    shape = tuple(experts.shape[1:])
    one = dataclasses.replace(stored, shape=shape, num_bytes=stored.num_bytes // place.stacked)
    return [
        scan(one, dataclasses.replace(place, expert=expert, stacked=0), values, None)
        for expert, values in enumerate(experts)
    ]


@dataclasses.dataclass(slots=True)
class _Counts:
    nan: int = 0
    infinite: int = 0
    zero: int = 0
    first: int = -1  # flat index of the first value that is not finite
    squares: float = 0.0
    largest: float = 0.0


def _scan_plain(raw: Tensor, counts: _Counts) -> None:
    flat = raw.reshape(-1)
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK].float()
        extremes = torch.stack(part.aminmax())
        if not extremes.isfinite().all():  # aminmax propagates NaN, too
            broken = ~part.isfinite()
            nan = int(part.isnan().sum())
            counts.nan, counts.infinite = counts.nan + nan, counts.infinite + int(broken.sum()) - nan
            if counts.first < 0:
                counts.first = start + int(broken.nonzero()[0])
            part = part.masked_fill(broken, 0.0)
            extremes = torch.stack(part.aminmax())
        largest = float(extremes.abs().max())
        wide = torch.float64 if largest > _SQUARABLE else None
        counts.zero += int(np.count_nonzero(part.numpy() == 0))
        counts.squares += float(torch.linalg.vector_norm(part, dtype=wide)) ** 2
        counts.largest = max(counts.largest, largest)


def _scan_fp8(raw_RC: Tensor, scale: Tensor | None, counts: _Counts) -> Blocks | None:
    num_rows, num_columns = raw_RC.shape
    p_q = grid((num_rows, num_columns))
    squares, largest, saturated = (np.zeros(p_q) for _ in range(3))
    decoded_RC, ones = torch.zeros(BLOCK, p_q[1] * BLOCK), torch.ones(1, p_q[1])
    magnitudes_RC = np.zeros((BLOCK, p_q[1] * BLOCK), np.uint8)  # columns are padded to whole blocks with 0
    for row, part_RC in enumerate(raw_RC.split(BLOCK)):
        bytes_RC, magnitudes = part_RC.view(torch.uint8).numpy(), magnitudes_RC[: len(part_RC)]
        np.bitwise_and(bytes_RC, _MAGNITUDE, out=magnitudes[:, :num_columns])
        if magnitudes.max() == _NAN:
            broken = magnitudes == _NAN
            counts.nan += int(broken.sum())
            if counts.first < 0:
                counts.first = row * BLOCK * num_columns + int(np.flatnonzero(broken[:, :num_columns])[0])
            magnitudes[broken] = 0
            part_RC = torch.from_numpy(magnitudes[:, :num_columns].copy()).view(raw_RC.dtype)  # signs do not matter
        decoded = decoded_RC[: len(part_RC)]
        dequantise(part_RC, ones, decoded[:, :num_columns])
        counts.zero += part_RC.numel() - int(np.count_nonzero(magnitudes))
        squares[row] = np.einsum("rc,rc->c", decoded.numpy(), decoded.numpy()).reshape(-1, BLOCK).sum(1)
        largest[row] = _CODES[magnitudes.max(0).reshape(-1, BLOCK).max(1)]
        full = np.add.reduce(magnitudes == _SATURATED, axis=0, dtype=np.uint8)  # at most 128 rows
        saturated[row] = full.reshape(-1, BLOCK).sum(1, dtype=np.int64)
    if scale is None:
        counts.squares, counts.largest = math.nan, math.nan
        return None
    factor, sizes = scale.float().numpy().astype(np.float64), _block_sizes(num_rows, num_columns)
    usable = np.where(np.isfinite(factor), np.abs(factor), np.nan)
    counts.squares = float(np.nansum(squares * usable**2))
    counts.largest = float(np.nanmax(largest * usable, initial=0.0))
    return Blocks(np.sqrt(squares / sizes) * usable, largest, saturated / sizes, factor)


@functools.lru_cache(maxsize=64)
def _block_sizes(num_rows: int, num_columns: int) -> np.ndarray:
    """Return the number of weights in each block, [P, Q]; the last blocks may be smaller."""
    heights, widths = (np.minimum(BLOCK, n - np.arange(0, n, BLOCK)) for n in (num_rows, num_columns))
    return heights[:, None] * widths


def _digest(raw: Tensor, scale: Tensor | None) -> bytes:
    digest = hashlib.sha256()
    for tensor in (raw, scale):
        if tensor is not None:
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()


@functools.lru_cache(maxsize=64)
def _positions(shape: tuple[int, ...]) -> Tensor:
    """Return the flat indices of the sampled values in a tensor of this shape; all indices if the tensor is small."""
    size = math.prod(shape)
    if size <= SAMPLE:
        return torch.arange(size)
    return torch.randint(size, (SAMPLE,), generator=torch.Generator().manual_seed(0))


def _sample(raw: Tensor, scale: Tensor | None) -> np.ndarray:
    positions = _positions(tuple(raw.shape))
    flat = raw.reshape(-1)
    fp8 = raw.dtype == torch.float8_e4m3fn  # PyTorch cannot index this dtype
    values = (flat.view(torch.uint8)[positions].view(raw.dtype) if fp8 else flat[positions]).float()
    if scale is not None and raw.dim() == 2:
        rows, columns = positions // raw.shape[1] // BLOCK, positions % raw.shape[1] // BLOCK
        values = values * scale.float()[rows, columns]
    return values.numpy()
