"""Audits that go on while a visitor looks on: each in a thread of its own, of the weights once for all visitors."""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from model.doctor.findings import Report
from pages.common import limits, models

if TYPE_CHECKING:
    from model.doctor.prompts import Prompt

WEIGHTS, TEXT = STAGES = ("weights", "text")
Work = Callable[[Callable[[Any], None], threading.Event], Report]


@dataclasses.dataclass(eq=False)
class Audit:
    """One stage of one model's audit."""

    share: float = 0.0
    doing: str = "waiting for its turn"
    report: Report | None = None
    error: str | None = None
    cancel: threading.Event = dataclasses.field(default_factory=threading.Event)
    done: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def going(self) -> bool:
        """Whether it has not ended."""
        return not self.done.is_set()

    def start(self, work: Work) -> None:
        """Begin in a thread of its own."""
        threading.Thread(target=self._work, args=(work, _turns()), daemon=True).start()

    def _work(self, work: Work, turns: threading.Semaphore) -> None:
        try:
            with turns:
                self.report = work(self._tell, self.cancel)
        except (ValueError, OSError) as problem:
            self.error = str(problem)
        except MemoryError:
            self.error = "the machine ran out of memory"
        finally:
            self.done.set()

    def _tell(self, progress: Any) -> None:
        self.share, self.doing = progress.share, f"{progress.done:,} of {progress.count:,}"


@st.cache_resource(show_spinner=False)
def _turns() -> threading.Semaphore:
    """At most so many audits of all visitors at once."""
    return threading.Semaphore(limits.CONCURRENT_RUNS)


@st.cache_resource(show_spinner=False, max_entries=16)
def _of_weights(folder: Path, changed: tuple[tuple[str, int, int], ...]) -> dict[str, Audit]:
    """A place for the audit of one state of a folder, shared by all visitors."""
    return {}


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What a folder's files look like from outside: an audit holds as long as it stays."""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.json")]
    stats = [(path.name, path.stat()) for path in sorted(files)]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def weights(folder: Path) -> Audit | None:
    """The audit of the folder's weights, going on or done; None when nobody has asked for it."""
    return _of_weights(folder, _state(folder)).get(WEIGHTS)


def start_weights(folder: Path) -> None:
    """Begin it, unless it goes on or is done; again after it was stopped or failed."""
    held = _of_weights(folder, _state(folder))
    if WEIGHTS in held and (held[WEIGHTS].going or held[WEIGHTS].report):
        return
    held[WEIGHTS] = Audit()

    def work(tell: Callable[[Any], None], cancel: threading.Event) -> Report:
        from model.doctor.weights import examine_weights

        return examine_weights(folder, tell, cancel)

    held[WEIGHTS].start(work)


def text(folder: Path) -> Audit | None:
    """This session's audit of how the folder's model routes text; None when it has not asked."""
    return _own().get((folder, _state(folder)))


def start_text(folder: Path, written: str) -> None:
    """Begin it on the visitor's own lines, or, where there are none, on the doctor's sample. A callback."""
    stop_text()
    audit = _own()[folder, _state(folder)] = Audit()
    engines = models.engines()

    def work(tell: Callable[[Any], None], cancel: threading.Event) -> Report:
        from model.doctor.text import examine_text

        return examine_text(engines.get(folder), _prompts(written), None, tell, cancel)

    audit.start(work)


def stop_text() -> None:
    """End this session's audits after the run they are at; again is harmless. A callback."""
    for audit in _own().values():
        audit.cancel.set()


def stop_weights(folder: Path) -> None:
    """End the audit of the weights after the tensor it is at. A callback."""
    audit = weights(folder)
    if audit is not None:
        audit.cancel.set()


def _own() -> dict[Any, Audit]:
    return st.session_state.setdefault("audits", {})


def _prompts(written: str) -> "tuple[Prompt, ...]":
    from model.doctor.prompts import Prompt, own_prompts

    lines = [line for line in written.splitlines() if line.strip()]
    return tuple(Prompt(line) for line in lines) or own_prompts()
