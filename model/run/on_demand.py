"""Weights that are read when they are asked for: rows of an embedding, and the matrices of single experts.

They stand where the network has tensors, and look like them as far as the network looks. The model that they read from
holds them, and they hold it weakly: a circle would keep it, and its open files, after the last who uses it.
"""

import collections
import weakref
from collections.abc import Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model.checkpoint.names import Slot

if TYPE_CHECKING:
    from model.run.from_disk import DiskModel


class ExpertMatrices:
    """One matrix per expert, decoded a few ahead of its use, in place of one that was used before."""

    def __init__(self, model: "DiskModel", parts: Iterable[Slot], ahead: int) -> None:
        self._model, self._ahead = weakref.proxy(model), ahead
        self._of_expert: dict[int, list[Slot]] = {}
        self._announced: collections.deque[int] = collections.deque()
        self._coming: dict[int, Future[Tensor]] = {}
        for slot in parts:
            assert slot.expert is not None
            self._of_expert.setdefault(slot.expert, []).append(slot)

    def __len__(self) -> int:
        return len(self._of_expert)

    def announce(self, experts: Iterable[int]) -> None:
        """Read these next, in this order."""
        self._announced.extend(experts)
        self._model.disk.announce(slot.published for expert in self._announced for slot in self._of_expert[expert])

    def start(self) -> None:
        """Decode the next announced ones, so many at a time."""
        while self._announced and len(self._coming) < self._ahead:
            expert = self._announced.popleft()
            self._coming[expert] = self._model.decoders.submit(self._decode, expert, self._scratch(expert))

    def __getitem__(self, expert: int) -> Tensor:
        """The matrix of an expert; the one that was asked for before may be overwritten from now on."""
        coming = self._coming.pop(expert, None)
        matrix = self._decode(expert, self._scratch(expert)) if coming is None else coming.result()
        self.start()
        return matrix

    def _scratch(self, expert: int) -> Tensor:
        parts = self._of_expert[expert]
        return self._model.scratch((sum(slot.shape[0] for slot in parts), parts[0].shape[1]))

    def _decode(self, expert: int, matrix: Tensor) -> Tensor:
        for slot in self._of_expert[expert]:
            self._model.fill(slot.published, matrix if slot.rows is None else matrix[slice(*slot.rows)])
        return matrix


class SomeRows(nn.Embedding):
    """Looks tokens up among the rows of those that occur; a row that is asked for later is read then."""

    def __init__(self, model: "DiskModel", token_ids: list[int]) -> None:
        super().__init__(0, model.config.hidden_size, device="meta")
        self._model, self._row = weakref.proxy(model), dict[int, int]()
        self.weight = nn.Parameter(torch.empty(0, model.config.hidden_size, device=model.device), requires_grad=False)
        self.weight.data = self.weight.data.to(model.dtype)
        self._read(token_ids)

    def _read(self, token_ids: list[int]) -> None:
        new = sorted(set(token_ids) - set(self._row))
        if new:
            self._row |= {token_id: len(self._row) + row for row, token_id in enumerate(new)}
            self.weight.data = torch.cat([self.weight.data, self._model.embedding_rows(new)])

    def forward(self, input: Tensor) -> Tensor:
        self._read(input.flatten().tolist())
        rows = [[self._row[token_id] for token_id in sequence] for sequence in input.tolist()]
        return super().forward(torch.tensor(rows, device=input.device))
