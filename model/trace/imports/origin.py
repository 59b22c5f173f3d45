"""The origin of an imported trace: its engine and format, and the data that it lacks, with reasons.

A trace file may come from anyone, so the functions here ignore every entry that `origin` does not write.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from model.trace.trace import Trace


def origin(
    engine: str, form: str, missing: Mapping[str, str], notes: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """Return the `origin` part of an imported trace.

    Args:
        engine: name of the engine.
        form: format of the file.
        missing: for each kind of data that the trace lacks, the reason.
        notes: notes on what limits the trace.
        **more: `derived`: names of the variables that were computed from the file.
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
    """Return "measured" or "imported"; "unknown" if the trace states anything else."""
    stated = trace.origin.get("kind")
    return stated if stated in ("measured", "imported") else "unknown"


def is_imported(trace: Trace) -> bool:
    """Return whether another engine recorded the trace."""
    return trace.origin.get("kind") == "imported"


def missing(trace: Trace) -> dict[str, str]:
    """Return the reason for each kind of data that an imported trace lacks."""
    stated = trace.origin.get("missing")
    return {str(name): str(reason) for name, reason in stated.items()} if isinstance(stated, Mapping) else {}


def notes(trace: Trace) -> list[str]:
    """Return the notes on what limits an imported trace."""
    return _texts(trace, "notes")


def derived(trace: Trace) -> list[str]:
    """Return the names of an imported trace's variables that were computed, not read."""
    return _texts(trace, "derived")


def routing_kind(trace: Trace) -> str:
    """Return the origin of the routing: measured, imported, or derived from other data of an imported file."""
    return "derived" if "expert_id" in derived(trace) else kind(trace)


def _texts(trace: Trace, name: str) -> list[str]:
    entries = trace.origin.get(name)
    return [entry for entry in entries if isinstance(entry, str)] if isinstance(entries, list) else []
