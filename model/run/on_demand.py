"""Weights that stay on the disk and are read when they are used: rows of the embedding, and matrices of single experts.

They replace tensors of the network, and have only those methods of a tensor that the network calls.
"""

import collections
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor, nn

from model.checkpoint.disk import DiskTensors
from model.checkpoint.files import ModelFolder
from model.checkpoint.names import EMBEDDING, Slot
from model.network.layout import wants_input_major

DECODERS = 2  # number of threads that turn stored bytes into weights
AHEAD = 2  # number of expert matrices that are decoded before they are used


class DiskWeights:
    """The tensors of a model folder, read into weights on one device and in one dtype.

    Attributes:
        tensors: the tensors as stored on the disk.
        decoders: the threads that turn stored bytes into weights.
    """

    def __init__(self, folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.tensors = DiskTensors(folder)
        self.decoders = ThreadPoolExecutor(DECODERS, "decode")
        self._scratch: dict[tuple[int, ...], collections.deque[Tensor]] = {}

    def embedding_rows(self, token_ids: list[int]) -> Tensor:
        """Return the embedding of each token, [token, D], read from the disk."""
        return self.tensors.rows(EMBEDDING, token_ids, self.dtype).to(self.device)

    @torch.inference_mode()
    def fill(self, name: str, target: Tensor) -> None:
        """Read the tensor `name` into `target`, a part of a weight. Any thread may call this method."""
        if target.device.type == "cpu":
            self.tensors.take_into(name, target)
        else:
            target.copy_(self.tensors.take(name, self.dtype))

    def empty_matrix(self, shape: tuple[int, ...]) -> Tensor:
        """Return an uninitialised matrix with the strides of a loaded model, because strides affect the rounding."""
        if wants_input_major(self.device, self.dtype):
            return torch.empty(tuple(reversed(shape)), dtype=self.dtype, device=self.device).mT
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def scratch(self, shape: tuple[int, ...]) -> Tensor:
        """Return a matrix to overwrite: one of `AHEAD` + 1 matrices of this shape, which are reused in a cycle."""
        if shape not in self._scratch:
            self._scratch[shape] = collections.deque(self.empty_matrix(shape) for _ in range(AHEAD + 1))
        self._scratch[shape].rotate()
        return self._scratch[shape][0]


class ExpertMatrices:
    """One matrix per expert; a matrix is decoded shortly before its use, into the memory of an earlier matrix."""

    def __init__(self, weights: DiskWeights, parts: Iterable[Slot]) -> None:
        self._weights = weights
        self._of_expert: dict[int, list[Slot]] = {}
        self._announced: collections.deque[int] = collections.deque()
        self._coming: dict[int, Future[Tensor]] = {}
        for slot in parts:
            assert slot.expert is not None
            self._of_expert.setdefault(slot.expert, []).append(slot)

    def __len__(self) -> int:
        return len(self._of_expert)

    def announce(self, experts: Iterable[int]) -> None:
        """Queue experts to be read next, in the order of their use."""
        self._announced.extend(experts)
        self._weights.tensors.announce(slot.published for expert in self._announced for slot in self._of_expert[expert])

    def start(self) -> None:
        """Start to decode the next announced experts, at most `AHEAD` at a time."""
        while self._announced and len(self._coming) < AHEAD:
            expert = self._announced.popleft()
            self._coming[expert] = self._weights.decoders.submit(self._decode, expert, self._scratch(expert))

    def __getitem__(self, expert: int) -> Tensor:
        """Return the matrix of an expert, valid only until the next call: that call may reuse its memory."""
        coming = self._coming.pop(expert, None)
        matrix = self._decode(expert, self._scratch(expert)) if coming is None else coming.result()
        self.start()
        return matrix

    def _scratch(self, expert: int) -> Tensor:
        parts = self._of_expert[expert]
        return self._weights.scratch((sum(slot.shape[0] for slot in parts), parts[0].shape[1]))

    def _decode(self, expert: int, matrix: Tensor) -> Tensor:
        for slot in self._of_expert[expert]:
            self._weights.fill(slot.published, matrix if slot.rows is None else matrix[slice(*slot.rows)])
        return matrix


class RowsOnDemand(nn.Embedding):
    """An embedding that reads a token's row when the token first occurs, and holds only the rows read so far."""

    def __init__(self, weights: DiskWeights, width: int) -> None:
        super().__init__(0, width, device="meta")
        empty = torch.empty(0, width, device=weights.device, dtype=weights.dtype)
        self.weight = nn.Parameter(empty, requires_grad=False)
        self._weights, self._row = weights, dict[int, int]()

    def _read(self, token_ids: list[int]) -> None:
        new = sorted(set(token_ids) - set(self._row))
        if new:
            self._row |= {token_id: len(self._row) + row for row, token_id in enumerate(new)}
            self.weight.data = torch.cat([self.weight.data, self._weights.embedding_rows(new)])

    def forward(self, input: Tensor) -> Tensor:
        self._read(input.flatten().tolist())
        rows = [[self._row[token_id] for token_id in sequence] for sequence in input.tolist()]
        return super().forward(torch.tensor(rows, device=input.device))
