"""Attention of any layer and head after the run, computed in blocks of queries from the layer's captured input.

Each block of queries is reduced to the requested values before the next block is computed, so no array of tokens x
tokens is made, except in `mean_of_heads` and `head_attention`. The softmax of a query is over all keys that it reads,
also for a window of the map. `model/trace/cells.py` defines windows and cells.

Shape suffixes: T tokens, H heads, B queries of a block, S keys up to the last query of a block, I cells down, J cells
across, P the two parts of a score, W the width of a part, G bins of distances.
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

VALUES_AT_ONCE = 1 << 20  # largest number of scores in a block: 4 MB fit in a core's cache, which halves the time
HIDDEN = torch.finfo(torch.float32).min  # score of a hidden key; finite, so that a weight of 0 times this score is 0
PARTS = ("content", "position")


class LayerAttention:
    """Attention of one layer of a run, head by head; *derived* from the recorded input with the model's weights."""

    def __init__(self, engine: Engine, trace: Trace, layer: int, dense: bool = False) -> None:
        """Compute the latents of the layer, which all heads share.

        Args:
            engine: holds the weights.
            trace: holds the layers' inputs.
            layer: model layer number.
            dense: attend to all keys, even if the model's indexer selects keys.

        Raises:
            RequestError: the trace lacks the layer inputs or the selection, or was made with other weights.
        """
        self._vectors = HeadVectors(engine, trace, layer)
        self._kept_TT = None if dense else kept_keys(engine, trace, layer)
        self.num_tokens, self.num_heads = self._vectors.num_tokens, self._vectors.num_heads
        self._most_read = self.num_tokens if self._kept_TT is None else engine.config.index_topk

    @torch.inference_mode()
    def cells(self, head: int, window: Window | None = None, max_cells: int = MAX_CELLS) -> xr.Dataset:
        """Return a window of a head's attention map (None: the whole map) in at most `max_cells` cells per side.

        The variables are `largest`, `mean` and `pairs`, each [query, key]. In a window of at most `max_cells` per side,
        each cell is one pair.
        """
        window = window or whole(self.num_tokens)
        sides = cell_sides(window, max_cells)
        grid = _Grid(window, sides)
        for first, _, weights_BS in self._blocks(head, window.query, window.query_end, sides[0]):
            grid.add(first, weights_BS)
        return grid.dataset()

    @torch.inference_mode()
    def row(self, head: int, query: int) -> xr.DataArray:
        """Return the attention weights of one query on the keys up to its position, [key]."""
        _, _, weights_BS = next(self._blocks(head, query, query + 1))
        return xr.DataArray(_host(weights_BS[0]), dims=("key",))

    @torch.inference_mode()
    def overview(self, heads: Sequence[int], max_cells: int) -> tuple[xr.DataArray, xr.Dataset]:
        """Return a small map of each given head, and statistics of its attention.

        Returns:
            The largest weight of each cell, [head, query, key]; and a dataset of `entropy`, `first_token_share` and
            `mean_distance`, each [head, query], as `model/trace/attention.py` defines them.
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
        """Return attention averaged over all heads, [query, key]. Its size is tokens x tokens: for short texts only."""
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
        """Return two maps in cells: content part and position part of a head's scaled scores before the softmax.

        The sum of both parts is the score (DeepSeek-V2 report, equation 10). The arguments and variables are those of
        `cells`, but `largest` is the value with the largest magnitude.
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
        """Return the content part and the position part of one query's scores on the keys up to its position, [key]."""
        window = Window(query, query + 1, 0, query + 1)
        content, position = self.part_cells(head, window, max_cells=query + 1)
        return content["mean"][0].reset_coords(drop=True), position["mean"][0].reset_coords(drop=True)

    @torch.inference_mode()
    def parts_by_distance(self, heads: Sequence[int], max_bins: int = 512) -> xr.DataArray:
        """Return the mean of each score part by the distance from query to key, [part, head, distance].

        The mean is over all visible pairs at a distance. Their sum is a correlation of queries with keys; a Fourier
        transform computes it for all distances at once. For more than `max_bins` tokens, distances are in bins of equal
        width; the label of a bin is its smallest distance.
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
        """Yield each block's first query, scores and weights, [B, S]; starts differ by multiples of `multiple`."""
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
    """A map that is divided into cells, filled block by block; each block must start at the first row of a cell."""

    def __init__(self, window: Window, sides: tuple[int, int], signed: bool = False) -> None:
        self.window, self.sides, self._signed = window, sides, signed
        shape = [-(-length // side) for length, side in zip(window.lengths, sides, strict=True)]
        self._largest_IJ, self._sum_IJ = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def add(self, first: int, values_BS: Tensor) -> None:
        """Add a block that begins at query `first`: weights, or scores if the map is signed.

        The value of a key that a query does not read is 0 in weights, and minus infinity in scores.
        """
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
        """Return the cells. Every visible pair is in a block, so a cell that no block reached holds no visible pair."""
        return dataset(self._largest_IJ, self._sum_IJ, self.window, self.sides)


@torch.inference_mode()
def head_attention(engine: Engine, trace: Trace, layer: int, heads: list[int] | None = None) -> xr.DataArray:
    """Return dense attention weights of a layer, [head, query, key]. Use it for short texts only, because of its size.

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
    """Set the scores of keys after each query to `hidden` and return all scores; the last query reads all keys."""
    num_queries = len(scores_BS)
    future_BB = torch.ones(num_queries, num_queries, dtype=torch.bool, device=scores_BS.device).triu(1)
    scores_BS[:, -num_queries:].masked_fill_(future_BB, hidden)
    return scores_BS


def _reduced(values_BS: Tensor, sides: tuple[int, int], reduce: Callable[..., Tensor]) -> Tensor:
    """Return one value per cell of a block, [I, J]. Rows are reduced first, because that is faster."""
    for dim, side in enumerate(sides):
        full = values_BS.shape[dim] // side * side
        head, rest = values_BS.narrow(dim, 0, full), values_BS.narrow(dim, full, values_BS.shape[dim] - full)
        parts = [reduce(head.unflatten(dim, (-1, side)), dim + 1)] if full else []
        parts += [reduce(rest, dim, keepdim=True)] if rest.shape[dim] else []
        values_BS = parts[0] if len(parts) == 1 else torch.cat(parts, dim)
    return values_BS


def _figures(first: int, scores_BS: Tensor, weights_BS: Tensor, most_read: int) -> Tensor:
    """Return per query the entropy, the weight on the first token and the mean distance, [3, B].

    The entropy is a share of its maximum. A query reads the keys up to itself, at most `most_read` of them.
    """
    num_queries, num_keys = weights_BS.shape
    visible_B = torch.arange(first + 1, first + num_queries + 1, device=weights_BS.device)
    # The largest weight gives the softmax's denominator without another exponential of every score.
    denominator_B = scores_BS.amax(-1) - weights_BS.amax(-1).log()
    entropy_B = denominator_B - torch.linalg.vecdot(weights_BS, scores_BS)
    # Distances are counted from the block's first query: most weight is on small numbers, which keeps rounding small.
    back_S = torch.arange(first, first - num_keys, -1, device=weights_BS.device, dtype=torch.float32)
    distance_B = weights_BS @ back_S + (visible_B - 1 - first)
    return torch.stack([entropy_B.clamp(min=0) / visible_B.clamp(max=most_read).log(), weights_BS[:, 0], distance_B])


def _sums_by_distance(query_TW: Tensor, key_TW: Tensor) -> Tensor:
    """Return for each distance the sum of query . key over all pairs at that distance, [T], fp64."""
    length = 2 * len(query_TW)  # padded to twice the length, because the transform is cyclic
    query_FW, key_FW = (torch.fft.rfft(_in_fp64(part), length, dim=0) for part in (query_TW, key_TW))
    return torch.fft.irfft((query_FW * key_FW.conj()).sum(1), length)[: len(query_TW)]


def _in_fp64(values: Tensor) -> Tensor:
    """Return the values in fp64, on the CPU if the device does not support fp64."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _host(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
