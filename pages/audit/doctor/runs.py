"""Audits, each in its own thread. Visitors share audits of weights; an audit of texts belongs to one session."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from model.doctor.findings import Report
from model.run.turns import PASSES
from model.trace.trace import Trace
from pages.common import jobs, models, session
from pages.common.jobs import Job

if TYPE_CHECKING:
    from model.doctor.prompts import Prompt
    from model.doctor.text import Progress

WEIGHTS, TEXT = STAGES = ("weights", "text")


@dataclasses.dataclass(eq=False)
class Audit(Job):
    """One stage of the audit of one model: its weights, or its routing of texts."""

    share: float = 0.0
    doing: str = "waiting for its turn"
    report: Report | None = None
    trace: Trace | None = None  # of the first text, which the links of findings open

    def update(self, progress: Any) -> None:
        """Store the progress that the audit reports."""
        self.share, self.doing = progress.share, f"{progress.done:,} of {progress.count:,}"


@st.cache_resource(show_spinner=False, max_entries=16)
def _of_weights(folder: Path, changed: tuple[tuple[str, int, int], ...]) -> dict[str, Audit]:
    """Return the dictionary that holds the audit of a folder's weights; all visitors share it until a file changes."""
    return {}


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return name, size and time of change of a folder's files; an audit is valid until one of them changes."""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.json")]
    stats = [(path.name, path.stat()) for path in sorted(files)]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def weights(folder: Path) -> Audit | None:
    """Return the audit of the folder's weights, running or finished; None if it was not started."""
    return _of_weights(folder, _state(folder)).get(WEIGHTS)


def start_weights(folder: Path) -> None:
    """Start the audit of a folder's weights, unless one is running or has a report. A callback."""
    cache = _of_weights(folder, _state(folder))
    if WEIGHTS in cache and (cache[WEIGHTS].waiting or cache[WEIGHTS].report):
        return
    audit = cache[WEIGHTS] = _own()[WEIGHTS, folder, _state(folder)] = Audit()

    def progress(tensor: Any) -> None:
        audit.update(tensor)
        PASSES.pause()

    def work() -> None:
        from model.doctor.weights import examine_weights

        with models.path_hidden(folder), PASSES.turn(audit.cancel) as has_turn:
            if has_turn:
                audit.report = examine_weights(folder, progress, audit.cancel)

    jobs.begin(audit, work)


def text(folder: Path) -> Audit | None:
    """Return this session's audit of how the folder's model routes text; None if it was not started."""
    return _own().get((TEXT, folder, _state(folder)))


def start_text(folder: Path, lines: str, reference: Trace | None) -> None:
    """Start the audit of texts and stop this session's previous one. A callback.

    Args:
        folder: folder of the model.
        lines: the visitor's texts, one per line; if empty and without a reference, the doctor's sample is run.
        reference: trace of the healthy model, whose tokens are run too; None: no comparison.
    """
    stop(TEXT)
    audit = _own()[TEXT, folder, _state(folder)] = Audit()
    engines = models.engines()

    def progress(step: "Progress") -> None:
        audit.update(step)
        if audit.trace is None and step.doing != "bf16":
            audit.trace = step.trace

    def work() -> None:
        from model.doctor.text import examine_text
        from model.families.choose import load

        # A comparison may exchange the model's experts during a run, so it needs a model of its own.
        with models.path_hidden(folder):
            engine = engines.get(folder) if reference is None else load(folder)
            prompts = _prompts(lines, reference is None)
            audit.report = examine_text(engine, prompts, reference, progress, audit.cancel)

    jobs.stop_with_tab(audit)
    jobs.begin(audit, work)


def open_audited(folder: Path) -> None:
    """Show a run of the audited model: the first text that the audit ran, else a new run of the default prompt."""
    audit = text(folder)
    if audit is not None and audit.trace is not None:
        session.show_trace(audit.trace)
        return
    session.start(session.request_from({}), session.recorder())


def going() -> bool:
    """Return whether an audit that this session started is running or waits for its turn."""
    return any(audit.waiting for audit in _own().values())


def stop(*stages: str) -> None:
    """Stop this session's audits of `stages` after their current step. A callback."""
    for (stage, *_), audit in _own().items():
        if stage in stages:
            audit.stop()


def _own() -> dict[Any, Audit]:
    """Return the audits that this session started; it may stop only these."""
    return st.session_state.setdefault("audits", {})


def _prompts(lines: str, needed: bool) -> "tuple[Prompt, ...]":
    """Return the visitor's texts as prompts. Without texts, return the doctor's sample if `needed`, else nothing."""
    from model.doctor.prompts import Prompt, own_prompts

    texts = [line for line in lines.splitlines() if line.strip()]
    return tuple(Prompt(text) for text in texts) or (own_prompts() if needed else ())
