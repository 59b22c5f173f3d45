"""Work that a session asked for: executed once, stopped from outside, and kept with what was done."""

import dataclasses
import threading
from typing import TypeVar

from pages.common import limits

Key = TypeVar("Key")
Kept = TypeVar("Kept", bound="Job")


@dataclasses.dataclass(eq=False, kw_only=True)
class Job:
    """The state of one; whoever executes it fills in the rest."""

    error: str | None = None  # why there is nothing to show
    complete: bool = False
    cancel: threading.Event = dataclasses.field(default_factory=threading.Event)
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    _claimed: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def waiting(self) -> bool:
        """Whether it has not ended."""
        return not self.done.is_set()

    def claim(self) -> bool:
        """Whether the caller is the one to execute it; True once."""
        return self._claimed.acquire(blocking=False)

    def stop(self) -> None:
        """Ask it to end before its next step; again is harmless."""
        self.cancel.set()


def keep(kept: dict[Key, Kept], key: Key, job: Kept) -> None:
    """Put a job among those of a session, in place of one of the same key; the oldest go when there are too many."""
    kept.pop(key, None)
    kept[key] = job
    while len(kept) > limits.KEPT_EXPERIMENTS:
        del kept[next(iter(kept))]
