"""The protocol of a training loop's data."""

from typing import Protocol, TypeVar

Batch = TypeVar("Batch", covariant=True)


class Batches(Protocol[Batch]):
    """Gives each step its batch, which depends on the seed and the step's number alone."""

    def batch(self, seed: int, step: int, num_sequences: int, /) -> Batch: ...  # noqa: D102
