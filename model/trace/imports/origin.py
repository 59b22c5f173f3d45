"""Where an imported trace comes from, what it lacks and why; written when it is read, and read back with care.

A trace file may come from anyone: what is not as `origin` writes it says nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from model.trace.trace import Trace


def origin(
    engine: str, form: str, missing: Mapping[str, str], notes: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """The `origin` of an imported trace.

    Args:
        engine: what recorded it.
        form: the format it was read from.
        missing: what the trace does not hold -> why.
        notes: what a reader must know besides.
        **more: `derived`, the variables that were worked out from the file.
    """
    return {
        "kind": "imported",
        "engine": engine,
        "format": form,
        "device": "unknown",
        "dtype": "unknown",
        "versions": {},
        "time_utc": "",
        "missing": dict(missing),
        "notes": list(notes),
        **more,
    }


def kind(trace: Trace) -> str:
    """How the trace came about: measured or imported; unknown where it says something else."""
    stated = trace.origin.get("kind")
    return stated if stated in ("measured", "imported") else "unknown"


def is_imported(trace: Trace) -> bool:
    """Whether another engine recorded it."""
    return trace.origin.get("kind") == "imported"


def missing(trace: Trace) -> dict[str, str]:
    """What an imported trace does not hold -> why."""
    found = trace.origin.get("missing")
    return {str(what): str(why) for what, why in found.items()} if isinstance(found, Mapping) else {}


def notes(trace: Trace) -> list[str]:
    """What a reader of an imported trace must know besides."""
    return _texts(trace, "notes")


def derived(trace: Trace) -> list[str]:
    """Variables of an imported trace that were worked out, not read."""
    return _texts(trace, "derived")


def routing_kind(trace: Trace) -> str:
    """Return how the routing came about: measured, imported, or derived from what an imported file holds."""
    return "derived" if "expert_id" in derived(trace) else kind(trace)


def _texts(trace: Trace, name: str) -> list[str]:
    found = trace.origin.get(name)
    return [entry for entry in found if isinstance(entry, str)] if isinstance(found, list) else []
