"""One run of a session, from the click to its trace.

A run is a job (see `pages.common.jobs`). If it is stopped, the steps done so far become its trace. A script that shows
the lens (`pages.common.live`) sends it the steps of the run.
"""

import dataclasses
import time
from collections.abc import Hashable

import streamlit as st

from model.run.apart import source
from model.run.computation import Computation
from model.run.protocol import EngineProtocol, LocalEngineProtocol
from model.run.request import Capture, RequestError, RunRequest
from model.run.step import Progress, Step
from model.trace.trace import Trace
from pages.common import jobs, limits, live
from pages.common.jobs import Job
from viz.lens import wire


@dataclasses.dataclass(eq=False)
class Run(Job):
    """A run of the session, or a trace from a file; a trace from a file has no request."""

    number: int  # unique among the runs of the server
    kind: str  # "run", "engine" (on a serving engine), "compared" (side B), "recorded" or "opened"
    request: RunRequest | None = None
    trace: Trace | None = None
    seconds: float | None = None  # time of the steps, without waits for a turn
    note: str | None = None  # what the run does not record, and why
    header: wire.Header | None = None  # axes of the run, once they are known
    blocks: list[bytes] = dataclasses.field(default_factory=list)  # messages for the lens, until the run ends
    _snapshot: bytes | None = None

    @property
    def waiting(self) -> bool:
        """Whether the run has a request and has not ended."""
        return self.request is not None and not self.done.is_set()

    @property
    def stopped(self) -> bool:
        """Whether the run was ended early, with a trace of the steps done."""
        return self.request is not None and self.trace is not None and not self.waiting and not self.complete

    @property
    def is_large(self) -> bool:
        """Whether the run may load a model of its own: side B of a comparison does."""
        return self.kind == "compared"

    def snapshot(self) -> bytes:
        """Return the whole run as a message for the lens; the message is packed once."""
        assert self.trace is not None
        if self._snapshot is None:
            self._snapshot = live.snapshot_of(self.trace, self.number)
            self.blocks = []
        return self._snapshot


def check_prompt(request: RunRequest, engine: LocalEngineProtocol) -> int:
    """Return the number of tokens of a request's prompt.

    Raises:
        ValueError: the prompt cannot be encoded, does not fit the model's context, or exceeds `limits.PROMPT_TOKENS`.
    """
    number = len(engine.encode(request))
    if number > limits.PROMPT_TOKENS:
        raise RequestError(
            f"the prompt has {number:,} tokens, at most {limits.PROMPT_TOKENS:,} are run here; shorten it"
        )
    return number


def fit(run: Run, engine: LocalEngineProtocol) -> None:
    """Let the run record the indexer and drafts if the model has them, and attention if its size is within the limit.

    A run from disk records only the routing and generates no tokens. `run.note` says what is not recorded.

    Raises:
        ValueError: the prompt cannot be run; see `check_prompt`.
    """
    assert run.request is not None
    abilities = engine.abilities
    if not abilities.new_tokens:
        run.request = dataclasses.replace(run.request, max_new_tokens=0, capture=Capture(frozenset({"router"})))
        run.note = "This model does not fit in memory: its layers are read from the disk, and it generates no tokens"
        check_prompt(run.request, engine)
        return
    num_tokens = check_prompt(run.request, engine) + run.request.max_new_tokens
    weights = engine.shape.num_layers * engine.shape.num_heads * num_tokens**2
    variables = (run.request.capture.variables | {"indexer", "drafts"}) & abilities.captures
    if "attention" in variables and weights > limits.ATTENTION_WEIGHTS:
        variables -= {"attention"}
        later = "computes one layer at a time" if abilities.heads_later else "needs a shorter text"
        run.note = f"{num_tokens} tokens are too many to record all heads; Attention {later}"
    run.request = dataclasses.replace(run.request, capture=Capture(variables))


def record(run: Run, engine: EngineProtocol, key: Hashable = None) -> None:
    """Run the request of a run step by step until it ends or is stopped, and store its trace.

    Args:
        run: the run.
        engine: the engine.
        key: runs with this key that go on at the same time are computed once, see `key_of`; None: never share.

    Raises:
        ValueError: the request cannot be run, or was stopped before its first step.
    """
    assert run.request is not None
    new = Computation(run.request, source(engine), _pack, _report_step, _report_layer)
    computation = new.join(run, key)
    run.blocks = computation.blocks
    run.header = live.header_for(engine, run.request, run.number)  # last: pages then send the blocks to the lens
    run.trace, run.seconds = computation.follow(run)


def key_of(run: Run, engine: LocalEngineProtocol) -> Hashable:
    """Return what determines the trace of a run: two runs with equal keys have the same trace."""
    return engine.folder, str(engine.dtype), run.request


def recall_or_record(run: Run, engine: LocalEngineProtocol, cache: dict[Hashable, Trace]) -> None:
    """Do what `record` does, but take the trace from `cache` if another visitor has completed the same request."""
    key = key_of(run, engine)
    run.trace = cache.get(key)
    if run.trace is None:
        record(run, engine, key)
    if run.trace is not None and not run.cancel.is_set():
        jobs.keep(cache, key, run.trace, limits.KEPT_TRACES)


@st.cache_resource(show_spinner=False)
def finished() -> dict[Hashable, Trace]:
    """Return the complete traces of all visitors by (model folder, dtype, request)."""
    return {}


def _pack(step: Step) -> bytes:
    return wire.pack_block(step.start, step.tokens, step.text, step.arrays)


def _report_step(computation: Computation[Run]) -> None:
    """Report the progress of a computation to its runs."""
    for run in computation.runs:
        assert run.request is not None
        total, new = run.request.max_new_tokens, computation.num_tokens - computation.num_prompt
        speed = computation.num_tokens / (time.monotonic() - computation.began)
        others = len(jobs.GOING) - len(computation.runs)
        beside = f", beside {others} other run{'s' if others > 1 else ''}" if others > 0 else ""
        run.advance(new / total if total else 1.0, f"{new} of {total} new tokens, {speed:.0f} tokens/s{beside}")


def _report_layer(runs: list[Run], progress: Progress) -> None:
    """Report the progress of a run from disk to the runs that follow it."""
    done, count = progress.layers_done, progress.num_layers
    share, message = 0.0, "Another run of this model is reading its layers from disk; yours starts when that run ends"
    if done:
        read = f"{progress.bytes_read / 1e9:.2f} GB at {progress.bytes_per_second / 1e9:.2f} GB/s"
        share, message = done / count, f"layer {done} of {count}, {read}, {progress.seconds_left:.0f} s left"
    for run in runs:
        run.advance(share, message)
