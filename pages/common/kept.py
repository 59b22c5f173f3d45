"""What a reload keeps: a visitor's run and choices, for the tab that had them.

A reload ends the page's session and begins a new session, which knows only the URL. The URL therefore holds a random
key. When a session ends, its state stays on the server under this key for a while. The next session whose URL has the
key takes over the state and the key. While a session is open, no other session can take its state. A copied link leaves
the key out.
"""

import dataclasses
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

import streamlit as st

from model.run.request import FIELDS
from pages.common import controls, limits, session
from pages.common.runs import Run

KEY = "session"  # in the URL
RUNS = ("run", "previous", "nano-runs", "room")  # without one of these there is nothing to keep
NAMES = (*RUNS, *controls.KEPT)
WAIT_SECONDS = 2.0  # a reload may begin the new session just before the old one ends
GONE = (
    "The run of this address is not kept any more. Only the tab that made a run finds it after a reload, for "
    "{minutes} minutes. Run the text again, or open its saved trace under Trace file."
)


@dataclasses.dataclass
class _Entry:
    state: dict[str, Any]
    released: float | None = None  # when its session ended; None while it goes on

    @property
    def num_bytes(self) -> int:
        """Bytes of the traces in the state."""
        runs = (value for value in self.state.values() if isinstance(value, Run))
        return sum(run.trace.data.nbytes for run in runs if run.trace is not None)


class Shelf:
    """The states of sessions by key. States of ended sessions are dropped by age and by total bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def put(self, key: str, state: dict[str, Any]) -> None:
        """Store the state of an open session, in place of the state stored earlier for this session."""
        with self._lock:
            self._entries[key] = _Entry(state)
            self._drop()

    def release(self, key: str) -> None:
        """Note that the session of a key has ended; `take` can return its state for `limits.KEPT_SECONDS`."""
        with self._lock:
            if key in self._entries:
                self._entries[key].released = time.monotonic()
            self._drop()
        timer = threading.Timer(limits.KEPT_SECONDS + 1, self.drop)
        timer.daemon = True
        timer.start()

    def take(self, key: str) -> dict[str, Any] | None:
        """Return and remove the state of a key; None if there is no state, or its session is still open."""
        with self._lock:
            self._drop()
            entry = self._entries.get(key)
            return self._entries.pop(key).state if entry is not None and entry.released is not None else None

    def has(self, key: str) -> bool:
        """Return whether a state of this key is stored, whether or not its session has ended."""
        return key in self._entries

    def drop(self) -> None:
        """Drop states of ended sessions: those whose time is over, and the oldest beyond `limits.KEPT_BYTES`."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        ended = [(entry.released, key) for key, entry in self._entries.items() if entry.released is not None]
        left, oldest_allowed = limits.KEPT_BYTES, time.monotonic() - limits.KEPT_SECONDS
        for released, key in sorted(ended, reverse=True):  # the newest first
            left -= self._entries[key].num_bytes
            if left < 0 or released < oldest_allowed:
                del self._entries[key]


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """Return the states of this server's sessions."""
    return Shelf()


def _release(owned: tuple[Shelf, str]) -> None:
    kept, key = owned
    kept.release(key)


@st.cache_resource(scope="session", show_spinner=False, on_release=_release)
def _owned(key: str) -> tuple[Shelf, str]:
    """Return the shelf and the session's key; Streamlit calls `_release` when the visitor closes or reloads the tab."""
    return shelf(), key


def restore(page: str) -> None:
    """In the first script run, restore the state that the URL names. Call it before any widget.

    Args:
        page: name of the open page.
    """
    state = st.session_state
    if "kept-key" not in state:
        state["kept-key"] = uuid.uuid4().hex
        _take(page, st.query_params.to_dict())


def keep() -> None:
    """Store the session's state, and write its key to the URL. Call it before any widget."""
    state = st.session_state
    if any(name in state for name in RUNS):
        owner, key = _owned(state["kept-key"])
        owner.put(key, {name: state[name] for name in NAMES if name in state})
        controls.write_address(KEY, key)
    else:
        controls.write_address(KEY, None)


def _take(page: str, address: Mapping[str, str]) -> None:
    """Restore the state that the URL names, unless the visitor has edited the request in the URL.

    If the state is gone and the URL has no prompt, record this for `notice`.
    """
    state, key = st.session_state, address.get(KEY, "")
    if not key:
        return
    kept, until = shelf(), time.monotonic() + WAIT_SECONDS
    while (found := kept.take(key)) is None and kept.has(key) and time.monotonic() < until:
        time.sleep(0.05)
    if found is None and not {"prompt", "room"} & set(address):
        state["kept-gone"], state["linked"] = page, True  # a run of another text would pass for the lost one
    if found is None or _was_edited(address, found):
        return
    state["kept-key"] = key  # another one would change the URL and add a history entry
    run = found.get("run")
    if run is not None and run.orphaned and run.kind == "run":
        state["again"] = found.pop("run").request
    state["linked"] = True
    state.update(found)


def _was_edited(address: Mapping[str, str], found: Mapping[str, Any]) -> bool:
    """Return whether the visitor edited the URL: its request differs from the values of the kept widgets."""
    return any(
        address[field.key] != field.write(found[field.key])
        for field in FIELDS.values()
        if field.key in address and found.get(field.key) is not None
    )


def notice(page: str) -> None:
    """Show that the run of the URL is gone, until the visitor runs something or opens another page."""
    state = st.session_state
    if "kept-gone" in state and (state["kept-gone"] != page or session.own_run() is not None):
        del state["kept-gone"]
    if "kept-gone" in state:
        st.warning(GONE.format(minutes=limits.KEPT_SECONDS // 60))
