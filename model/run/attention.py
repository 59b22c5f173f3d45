"""Attention of any layer and head after the run, computed in blocks of queries from the layer's captured input.

No array of tokens x tokens is made: each block of queries is reduced at once to the requested values. The softmax is
always over all keys up to the query, also for a part of the map. `model/trace/cells.py` defines the cells of a map.

Shape suffixes: T tokens, H heads, B queries of a block, S keys up to the last of them, I cells down, J cells across,
P the two parts of a score, W the width of one, G bins of distances.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from model.run.engine import Engine
from model.run.head_vectors import HeadVectors, kept_keys
from model.trace.cells import MAX_CELLS, Window, cell_sides, dataset, whole
from model.trace.trace import Trace

VALUES_AT_ONCE = 1 << 20  # scores of a block, 4 MB; in a core's cache it takes half the time
HIDDEN = torch.finfo(torch.float32).min  # finite, so that a weight of 0 times it is 0
PARTS = ("content", "position")


class LayerAttention:
    """Attention of one layer of a run, head by head; *derived* from the recorded input with the model's weights."""

    def __init__(self, engine: Engine, trace: Trace, layer: int, dense: bool = False) -> None:
        """Project the layer's input once for all heads.

        Args:
            engine: holds the weights.
            trace: holds the layers' inputs.
            layer: model layer number.
            dense: attend to all keys, even if the model's indexer selects some.

        Raises:
            RequestError: the trace lacks the layer inputs or the selection, or was made with other weights.
        """
        self._vectors = HeadVectors(engine, trace, layer)
        self._kept_TT = None if dense else kept_keys(engine, trace, layer)
        self.num_tokens, self.num_heads = self._vectors.num_tokens, self._vectors.num_heads
        self._most_read = self.num_tokens if self._kept_TT is None else engine.config.index_topk

    @torch.inference_mode()
    def cells(self, head: int, window: Window | None = None, max_cells: int = MAX_CELLS) -> xr.Dataset:
        """Return a part of a head's map in at most `max_cells` per side: `largest`, `mean`, `pairs`, [query, key].

        If the part fits, a cell is one pair.
        """
        window = window or whole(self.num_tokens)
        sides = cell_sides(window, max_cells)
        grid = _Grid(window, sides)
        for first, _, weights_BS in self._blocks(head, window.query, window.query_end, sides[0]):
            grid.add(first, weights_BS)
        return grid.dataset()

    @torch.inference_mode()
    def row(self, head: int, query: int) -> xr.DataArray:
        """Return the weights of one query, [key], up to itself."""
        _, _, weights_BS = next(self._blocks(head, query, query + 1))
        return xr.DataArray(_host(weights_BS[0]), dims=("key",))

    @torch.inference_mode()
    def overview(self, heads: Sequence[int], max_cells: int) -> tuple[xr.DataArray, xr.Dataset]:
        """Return small maps of some heads, and their statistics.

        Returns:
            The largest weight of each cell, [head, query, key], and `entropy`, `first_token_share` and `mean_distance`
            as `model/trace/attention.py` defines them, each [head, query].
        """
        window = whole(self.num_tokens)
        small, figures = [], []
        for head in heads:
            grid, parts = _Grid(window, cell_sides(window, max_cells)), []
            for first, scores_BS, weights_BS in self._blocks(head, 0, self.num_tokens, grid.sides[0]):
                grid.add(first, weights_BS)
                parts.append(_figures(first, scores_BS, weights_BS, self._most_read))
            small.append(grid.dataset()["largest"])
            figures.append(_host(torch.cat(parts, 1)))
        names = ("entropy", "first_token_share", "mean_distance")
        values = np.stack(figures, 1)
        values[:, :, 0] = np.nan  # the first query has no choice
        by_name = {name: (("head", "query"), values[index]) for index, name in enumerate(names)}
        labels = {"head": list(heads)}
        return xr.concat(small, "head").assign_coords(labels), xr.Dataset(by_name, coords=labels)

    @torch.inference_mode()
    def mean_of_heads(self) -> xr.DataArray:
        """Attention averaged over all heads, [query, key]: tokens x tokens, so for short texts only."""
        mean_TT = torch.zeros(self.num_tokens, self.num_tokens)
        for head in range(self.num_heads):
            for first, _, weights_BS in self._blocks(head, 0, self.num_tokens):
                num_queries, num_keys = weights_BS.shape
                mean_TT[first : first + num_queries, :num_keys] += weights_BS.cpu() / self.num_heads
        return xr.DataArray(mean_TT.numpy(), dims=("query", "key"))

    @torch.inference_mode()
    def part_cells(
        self, head: int, window: Window | None = None, max_cells: int = MAX_CELLS
    ) -> tuple[xr.Dataset, xr.Dataset]:
        """Return both scaled terms of a head's score before the softmax, content and position; cells as in `cells`.

        Their sum is the score (DeepSeek-V2 report, equation 10). `largest` is the value with the largest magnitude.
        """
        window = window or whole(self.num_tokens)
        grids = [_Grid(window, cell_sides(window, max_cells), signed=True) for _ in PARTS]
        keys = self._vectors.keys(head, window.query_end)
        rows = _rows(window.query_end, grids[0].sides[0])
        for first in range(window.query, window.query_end, rows):
            end = min(first + rows, window.query_end)
            queries = self._vectors.queries(head, first, end)
            for grid, query, key in zip(grids, queries, keys, strict=True):
                grid.add(first, _causal(query @ key[:end].T * self._vectors.scale, -torch.inf))
        content, position = (grid.dataset() for grid in grids)
        return content, position

    def part_rows(self, head: int, query: int) -> tuple[xr.DataArray, xr.DataArray]:
        """Return the content and position part of one query's scores, each [key], up to itself."""
        window = Window(query, query + 1, 0, query + 1)
        content, position = self.part_cells(head, window, max_cells=query + 1)
        return content["mean"][0].reset_coords(drop=True), position["mean"][0].reset_coords(drop=True)

    @torch.inference_mode()
    def parts_by_distance(self, heads: Sequence[int], max_bins: int = 512) -> xr.DataArray:
        """Return the mean of both parts of the score over all pairs at a distance, [part, head, distance].

        The sum over all pairs at a distance is a correlation of queries with keys, which a Fourier transform gives for
        all distances at once. Long texts use bins of equal width, labelled by their smallest distance.
        """
        width = -(-self.num_tokens // max_bins)
        distances = np.arange(0, self.num_tokens, width)
        pairs_G = np.add.reduceat(self.num_tokens - np.arange(self.num_tokens), distances)
        sums_PHG = np.empty((len(PARTS), len(heads), len(distances)))
        for index, head in enumerate(heads):
            parts = self._vectors.queries(head, 0, self.num_tokens), self._vectors.keys(head, self.num_tokens)
            for part, (query, key) in enumerate(zip(*parts, strict=True)):
                sums_T = _host(_sums_by_distance(query, key)) * self._vectors.scale
                sums_PHG[part, index] = np.add.reduceat(sums_T, distances)
        labels = {"part": list(PARTS), "head": list(heads), "distance": distances}
        return xr.DataArray(sums_PHG / pairs_G, dims=("part", "head", "distance"), coords=labels)

    def _blocks(self, head: int, first: int, end: int, multiple: int = 1) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield first query, scores and weights, [B, S], of blocks whose length is a multiple of `multiple`."""
        key_TQ = torch.cat(self._vectors.keys(head, end), 1)
        query_BQ = torch.cat(self._vectors.queries(head, first, end), 1) * self._vectors.scale
        rows = _rows(end, multiple)
        for start in range(first, end, rows):
            stop = min(start + rows, end)
            scores_BS = _causal(query_BQ[start - first : stop - first] @ key_TQ[:stop].T)
            if self._kept_TT is not None:
                left_out_BS = torch.from_numpy(~self._kept_TT[start:stop, :stop]).to(scores_BS.device)
                scores_BS.masked_fill_(left_out_BS, HIDDEN)
            yield start, scores_BS, scores_BS.softmax(-1)


class _Grid:
    """A map in cells, filled block by block; each block starts at the first row of a cell."""

    def __init__(self, window: Window, sides: tuple[int, int], signed: bool = False) -> None:
        self.window, self.sides, self._signed = window, sides, signed
        shape = [-(-length // side) for length, side in zip(window.lengths, sides, strict=True)]
        self._largest_IJ, self._sum_IJ = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def add(self, first: int, values_BS: Tensor) -> None:
        """Add a block's rows: weights, 0 where hidden, or signed scores, minus infinity where hidden."""
        seen_BS = values_BS[:, self.window.key : self.window.key_end]
        if not seen_BS.shape[1]:
            return
        counted_BS = seen_BS.masked_fill(seen_BS == -torch.inf, 0) if self._signed else seen_BS
        sum_IJ, largest_IJ = _reduced(counted_BS, self.sides, torch.sum), _reduced(seen_BS, self.sides, torch.amax)
        if self._signed:
            lowest_IJ = _reduced(seen_BS.masked_fill(seen_BS == -torch.inf, torch.inf), self.sides, torch.amin)
            largest_IJ = torch.where(-lowest_IJ > largest_IJ, lowest_IJ, largest_IJ)
        row, (rows, columns) = (first - self.window.query) // self.sides[0], sum_IJ.shape
        self._sum_IJ[row : row + rows, :columns] = _host(sum_IJ)
        self._largest_IJ[row : row + rows, :columns] = _host(largest_IJ)

    def dataset(self) -> xr.Dataset:
        """Return the cells; those that no block reached hold no visible pair."""
        return dataset(self._largest_IJ, self._sum_IJ, self.window, self.sides)


@torch.inference_mode()
def head_attention(engine: Engine, trace: Trace, layer: int, heads: list[int] | None = None) -> xr.DataArray:
    """Return dense attention weights of a layer, [head, query, key]; for short texts only, because of its size.

    Raises:
        RequestError: the trace holds no layer inputs, or was made with other weights.
    """
    attention = LayerAttention(engine, trace, layer, dense=True)
    chosen = list(range(attention.num_heads)) if heads is None else heads
    maps = [attention.cells(head, max_cells=attention.num_tokens)["mean"] for head in chosen]
    weights = np.nan_to_num(np.stack([one.values for one in maps]))
    return xr.DataArray(weights, dims=("head", "query", "key"), coords={"head": chosen})


def _rows(num_keys: int, multiple: int) -> int:
    """Return the number of queries in a block, a multiple of `multiple`."""
    return multiple * max(1, VALUES_AT_ONCE // (num_keys * multiple))


def _causal(scores_BS: Tensor, hidden: float = HIDDEN) -> Tensor:
    """Hide later keys in place: the block's last query reads every key, the one before all but one."""
    num_queries = len(scores_BS)
    future_BB = torch.ones(num_queries, num_queries, dtype=torch.bool, device=scores_BS.device).triu(1)
    scores_BS[:, -num_queries:].masked_fill_(future_BB, hidden)
    return scores_BS


def _reduced(values_BS: Tensor, sides: tuple[int, int], reduce: Callable[..., Tensor]) -> Tensor:
    """Reduce each cell of a block to one value, [I, J]; rows first, which is faster."""
    for dim, side in enumerate(sides):
        full = values_BS.shape[dim] // side * side
        head, rest = values_BS.narrow(dim, 0, full), values_BS.narrow(dim, full, values_BS.shape[dim] - full)
        parts = [reduce(head.unflatten(dim, (-1, side)), dim + 1)] if full else []
        parts += [reduce(rest, dim, keepdim=True)] if rest.shape[dim] else []
        values_BS = parts[0] if len(parts) == 1 else torch.cat(parts, dim)
    return values_BS


def _figures(first: int, scores_BS: Tensor, weights_BS: Tensor, most_read: int) -> Tensor:
    """Return entropy as a share of its maximum, weight on the first token, and mean distance per query, [3, B].

    A query reads the keys up to itself, at most `most_read` of them.
    """
    num_queries, num_keys = weights_BS.shape
    visible_B = torch.arange(first + 1, first + num_queries + 1, device=weights_BS.device)
    # The largest weight gives the softmax's denominator without another exponential of every score.
    denominator_B = scores_BS.amax(-1) - weights_BS.amax(-1).log()
    entropy_B = denominator_B - torch.linalg.vecdot(weights_BS, scores_BS)
    # Counted from the block's first query: numbers are small where most weight is, so little is rounded.
    back_S = torch.arange(first, first - num_keys, -1, device=weights_BS.device, dtype=torch.float32)
    distance_B = weights_BS @ back_S + (visible_B - 1 - first)
    return torch.stack([entropy_B.clamp(min=0) / visible_B.clamp(max=most_read).log(), weights_BS[:, 0], distance_B])


def _sums_by_distance(query_TW: Tensor, key_TW: Tensor) -> Tensor:
    """Return the sum over all queries of the product with the key at each distance, [T], fp64."""
    length = 2 * len(query_TW)  # padded to twice the length, because the transform is cyclic
    query_FW, key_FW = (torch.fft.rfft(_in_fp64(part), length, dim=0) for part in (query_TW, key_TW))
    return torch.fft.irfft((query_FW * key_FW.conj()).sum(1), length)[: len(query_TW)]


def _in_fp64(values: Tensor) -> Tensor:
    """Convert to fp64, on the CPU if the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _host(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
