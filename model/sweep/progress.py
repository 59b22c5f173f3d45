"""How far a sweep is: shards, tokens, rate and time left."""

import dataclasses
import time
from collections.abc import Collection, Sequence

from model.sweep.settings import Shard, Summary


@dataclasses.dataclass(frozen=True)
class Progress:
    """The state of a sweep between two shards.

    Attributes:
        done, shards: finished shards, and all.
        tokens_done, tokens: planned tokens of the finished shards, and of all.
        tokens_now: tokens of the shards that finished in this process.
        seconds: time since this process began to route.
        refused, failed: tokens and documents, of these shards.
    """

    done: int
    shards: int
    tokens_done: int
    tokens: int
    planned: tuple[int, ...]
    began: float
    tokens_now: int = 0
    seconds: float = 0.0
    refused: int = 0
    failed: int = 0

    @classmethod
    def begin(cls, shards: Sequence[Shard], missing: Collection[int]) -> "Progress":
        """Return the state before the first of the missing shards is routed."""
        planned = tuple(shard.tokens for shard in shards)
        done = sum(planned) - sum(planned[shard] for shard in missing)
        return cls(len(shards) - len(missing), len(shards), done, sum(planned), planned, time.monotonic())

    def after(self, summary: Summary) -> "Progress":
        """Return the state after one more shard."""
        tokens = self.planned[summary.shard]
        return dataclasses.replace(
            self,
            done=self.done + 1,
            tokens_done=self.tokens_done + tokens,
            tokens_now=self.tokens_now + tokens,
            seconds=time.monotonic() - self.began,
            refused=self.refused + summary.refused,
            failed=self.failed + summary.failed,
        )

    @property
    def rate(self) -> float | None:
        """Tokens per second of this process; None before its first shard."""
        return self.tokens_now / self.seconds if self.tokens_now and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last shard at this rate; None if the rate is unknown."""
        return (self.tokens - self.tokens_done) / self.rate if self.rate else None
