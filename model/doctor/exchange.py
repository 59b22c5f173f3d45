"""Exchanges weights of one MoE layer in memory for a run, to test what was swapped when a checkpoint was written."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from model.network.moe import MixtureOfExperts

_PAIRS_OF, _CYCLES_OF = 6, 4  # largest numbers of suspects to try in pairs, and in longer orders


@dataclasses.dataclass(frozen=True, slots=True)
class Exchange:
    """The weights to exchange in one layer."""

    moved: Mapping[int, int] = dataclasses.field(default_factory=dict)  # expert -> the expert whose weights it gets
    halves: tuple[int, ...] = ()  # experts whose gate and up projection are swapped
    shared_halves: bool = False  # swap gate and up projection of the shared expert


@contextlib.contextmanager
def exchanged(mixture: MixtureOfExperts, exchange: Exchange) -> Iterator[None]:
    """Apply an exchange, and restore the weights at the end."""
    _apply(mixture, exchange)
    try:
        yield
    finally:
        _apply(mixture, dataclasses.replace(exchange, moved={source: to for to, source in exchange.moved.items()}))


@torch.no_grad()
def _apply(mixture: MixtureOfExperts, exchange: Exchange) -> None:
    for expert in exchange.halves:
        _swap_halves(mixture.experts.gate_up[expert])
    if exchange.shared_halves and mixture.shared is not None:
        _swap_halves(mixture.shared.gate_up.weight)
    for matrices in (mixture.experts.gate_up, mixture.experts.down):
        copies = {expert: matrices[source].clone() for expert, source in exchange.moved.items()}
        for expert, copy in copies.items():
            matrices[expert].copy_(copy)


def _swap_halves(gate_up: Tensor) -> None:
    gate, up = gate_up.chunk(2)
    copy = gate.clone()
    gate.copy_(up)
    up.copy_(copy)


def orders(suspects: Sequence[int]) -> Iterator[dict[int, int]]:
    """Yield the exchanges to try, as expert -> the expert whose weights it gets.

    First come exchanges of two experts, for all pairs of the first `_PAIRS_OF` suspects. If there are 3 to `_CYCLES_OF`
    suspects, all permutations follow in which no suspect keeps its weights.
    """
    for one, other in itertools.combinations(suspects[:_PAIRS_OF], 2):
        yield {one: other, other: one}
    if 3 <= len(suspects) <= _CYCLES_OF:
        for order in itertools.permutations(suspects):
            if all(one != other for one, other in zip(suspects, order, strict=True)):
                yield dict(zip(suspects, order, strict=True))
