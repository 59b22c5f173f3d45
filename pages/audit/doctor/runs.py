"""Audits that go on while a visitor looks on: each in a thread of its own, of the weights once for all visitors."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from model.doctor.findings import Report
from model.trace.trace import Trace
from pages.common import jobs, models
from pages.common.jobs import Job

if TYPE_CHECKING:
    from model.doctor.prompts import Prompt

WEIGHTS, TEXT = STAGES = ("weights", "text")


@dataclasses.dataclass(eq=False)
class Audit(Job):
    """One stage of one model's audit."""

    share: float = 0.0
    doing: str = "waiting for its turn"
    report: Report | None = None

    def tell(self, progress: Any) -> None:
        """How far it is."""
        self.share, self.doing = progress.share, f"{progress.done:,} of {progress.count:,}"


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
    """Begin it, unless it goes on or is done; again after it was stopped or failed. A callback."""
    held = _of_weights(folder, _state(folder))
    if WEIGHTS in held and (held[WEIGHTS].waiting or held[WEIGHTS].report):
        return
    audit = held[WEIGHTS] = _own()[WEIGHTS, folder, _state(folder)] = Audit()

    def work() -> None:
        from model.doctor.weights import examine_weights

        audit.report = examine_weights(folder, audit.tell, audit.cancel)

    jobs.begin(audit, work)


def text(folder: Path) -> Audit | None:
    """This session's audit of how the folder's model routes text; None when it has not asked."""
    return _own().get((TEXT, folder, _state(folder)))


def start_text(folder: Path, written: str, healthy: Trace | None) -> None:
    """Begin it on the visitor's own lines and reference; without either, on the doctor's sample. A callback."""
    stop(TEXT)
    audit = _own()[TEXT, folder, _state(folder)] = Audit()
    engines = models.engines()

    def work() -> None:
        from model.doctor.text import examine_text
        from model.run.engine import Engine

        # A reference may have experts exchanged for the time of a run, which no other session must see.
        engine = engines.get(folder) if healthy is None else Engine.fitting(folder)
        prompts = _prompts(written, healthy is None)
        audit.report = examine_text(engine, prompts, healthy, audit.tell, audit.cancel)

    jobs.stop_with_tab(audit)
    jobs.begin(audit, work)


def going() -> bool:
    """Whether an audit that this session started has not ended."""
    return any(audit.waiting for audit in _own().values())


def stop(*stages: str) -> None:
    """End this session's audits of these stages after what they are at; again is harmless. A callback."""
    for (stage, *_), audit in _own().items():
        if stage in stages:
            audit.stop()


def _own() -> dict[Any, Audit]:
    """Those that this session started; an audit of weights is shown to all, and stopped by whoever started it."""
    return st.session_state.setdefault("audits", {})


def _prompts(written: str, needed: bool) -> "tuple[Prompt, ...]":
    from model.doctor.prompts import Prompt, own_prompts

    lines = [line for line in written.splitlines() if line.strip()]
    return tuple(Prompt(line) for line in lines) or (own_prompts() if needed else ())
