"""Keep what was derived from an object, for whoever asks again."""

import dataclasses
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

MOST = 64  # results per object; those that were asked for longest ago are dropped
_LOCK = threading.Lock()
Value = TypeVar("Value")


@dataclasses.dataclass(eq=False)
class _Entry:
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    results: list[Any] = dataclasses.field(default_factory=list)  # empty until it is computed


def derived(owner: object, key: Hashable, compute: Callable[[], Value]) -> Value:
    """Return `compute()`, computed once per object and key, also if several threads ask at the same time.

    The object itself holds the results, so they are freed with it. Nobody may change a result.

    Args:
        owner: object that never changes, such as a trace.
        key: everything that the result depends on, besides the object.
        compute: function without effects; if it raises an error, the next call computes again.
    """
    with _LOCK:
        entries: dict[Hashable, _Entry] = vars(owner).setdefault("_derived", {})
        entry = entries[key] = entries.pop(key, None) or _Entry()
        for oldest in list(entries)[:-MOST]:
            del entries[oldest]
    with entry.lock:
        if not entry.results:
            entry.results.append(compute())
        return entry.results[0]
