"""The protocol that the data of a training loop satisfies."""

from typing import Protocol, TypeVar

Batch = TypeVar("Batch", covariant=True)


class Batches(Protocol[Batch]):
    """Data with a batch for each step; the batch depends only on the seed and the number of the step."""

    def batch(self, seed: int, step: int, num_sequences: int, /) -> Batch: ...  # noqa: D102
