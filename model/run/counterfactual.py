"""A counterfactual: the same text with a change of the routing, compared with the original run and with a control.

The original run, the changed run and the draws of the control (`control.py`) are all fed the same tokens, prompt and
generated tokens of the original, so they differ only in the change. In addition, the changed model generates from the
prompt, with the settings and the seed of the original.
"""

import dataclasses
import functools
import threading
from collections.abc import Iterator
from typing import NamedTuple

import xarray as xr

from model.run.control import DRAWS, Control, Named, control, named_experts
from model.run.from_disk import Stopped
from model.run.interventions import Intervention
from model.run.protocol import LocalEngineProtocol
from model.run.request import FIELDS, Capture, RunRequest
from model.trace.effects import effect
from model.trace.trace import Trace

SEEN = Capture(frozenset({"router", "logits"}))
DRAWS_FROM_DISK = 9  # each draw reads all weights again
_SAMPLING = tuple(field.name for field in FIELDS.values() if field.samples)


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A text and a change of the routing; hashable.

    Attributes:
        fed: the request of the changed run: it feeds all tokens of the original and generates none.
        written: the request in which the changed model generates; None if the original has no generated tokens.
    """

    fed: RunRequest
    written: RunRequest | None

    @classmethod
    def about(
        cls, trace: Trace, interventions: tuple[Intervention, ...], max_new_tokens: int | None = None
    ) -> "Question":
        """Return the question about the text of a trace and these interventions.

        The changed model generates as many tokens as the original, but at most `max_new_tokens`.
        """
        ids = tuple(trace.data["token_id"].values.tolist())
        fed = RunRequest(token_ids=ids, capture=SEEN, interventions=interventions)
        num_prompt = int(trace.prompt_mask.sum())
        new = len(ids) - num_prompt if max_new_tokens is None else min(len(ids) - num_prompt, max_new_tokens)
        if not (num_prompt and new):
            return cls(fed, None)
        sampling = {name: trace.request[name] for name in _SAMPLING if name in trace.request}
        written = RunRequest(
            token_ids=ids[:num_prompt],
            max_new_tokens=new,
            capture=Capture(frozenset()),
            interventions=interventions,
            **sampling,
        )
        return cls(fed, written)

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """The interventions of the change."""
        return self.fed.interventions


class Stage(NamedTuple):
    """The progress of a counterfactual."""

    share: float  # share of the work that is done, from 0 to 1
    doing: str  # the part that begins now


class Counterfactual:
    """The results of a counterfactual. A result is None until its run is finished; stopping keeps finished results.

    Attributes:
        original: trace of the run without the change; it holds no logits.
        changed: trace of the run with the change; it holds no logits.
        effect: the effect of the change; see `model.trace.effects.effect`.
        written: trace of the text that the changed model generated.
        control: the draws of the control.
        draws: effects of the finished draws, with a first axis `draw`.
        matched: the effect to compare with the draws: that of `Control.repeated`, or `effect` without a repetition.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self.original: Trace | None = None
        self.changed: Trace | None = None
        self.effect: xr.Dataset | None = None
        self.written: Trace | None = None
        self.control: Control | None = None
        self.draws: xr.Dataset | None = None
        self.matched: xr.Dataset | None = None

    @property
    def named(self) -> tuple[Named, ...]:
        """The interventions that knock out or force experts of one layer; empty if the change is of another kind."""
        return named_experts(self.question.interventions)

    def run(self, engine: LocalEngineProtocol, cancel: threading.Event) -> Iterator[Stage]:
        """Compute the results, and yield a stage before each part; end early once `cancel` is set.

        Raises:
            RequestError, EditError: the model cannot apply the change or run the text; raised before the first stage.
        """
        engine.check(self.question.fed)
        try:
            yield from self._run(engine, cancel)
        except Stopped:
            return

    def _run(self, engine: LocalEngineProtocol, cancel: threading.Event) -> Iterator[Stage]:
        fed, most = self.question.fed, DRAWS if engine.abilities.new_tokens else DRAWS_FROM_DISK
        parts = most + 3
        yield Stage(0.0, "the original, fed its own text")
        if cancel.is_set():
            return
        original = engine.run(dataclasses.replace(fed, interventions=()), cancel)
        self.original = _without_logits(original)
        yield Stage(1 / parts, "the changed run, fed the same text")
        if cancel.is_set():
            return
        changed = engine.run(fed, cancel)
        self.effect, self.changed = effect(original, changed), _without_logits(changed)
        del changed
        if self.question.written is not None:
            yield from self._write(engine, self.question.written, cancel, 2 / parts, 1 / parts)
        if cancel.is_set():
            return
        yield from self._run_control(engine, original, cancel, most)

    def _run_control(
        self, engine: LocalEngineProtocol, original: Trace, cancel: threading.Event, most: int
    ) -> Iterator[Stage]:
        """Run the draws of the control, and yield a stage before each; the trace `original` must hold logits."""
        fed, parts, effects = self.question.fed, most + 3, list[xr.Dataset]()
        assert self.original is not None
        assert self.changed is not None
        allowed = functools.partial(_is_allowed, fed=fed, engine=engine)
        self.control = control(self.original, self.changed, self.question.interventions, allowed, most)
        self.matched = self.effect
        if self.control.repeated is not None:
            yield Stage(3 / parts, f"the change again, for {self.control.num_matched} of its tokens")
            if cancel.is_set():
                return
            repeated = engine.run(dataclasses.replace(fed, interventions=self.control.repeated), cancel)
            self.matched = effect(original, repeated)
        for number, draw in enumerate(self.control.draws, start=1):
            doing = f"control {number} of {len(self.control.draws)}: random experts"
            yield Stage((2 + number) / parts, doing)
            if cancel.is_set():
                return
            effects.append(effect(original, engine.run(dataclasses.replace(fed, interventions=draw), cancel)))
            self.draws = xr.concat(effects, "draw")

    def _write(
        self, engine: LocalEngineProtocol, request: RunRequest, cancel: threading.Event, begin: float, length: float
    ) -> Iterator[Stage]:
        steps, total = engine.stream(request, cancel), request.max_new_tokens
        doing = "the changed model continues the prompt"
        yield Stage(begin, doing)
        if cancel.is_set():
            return
        while True:
            try:
                step = next(steps)
            except StopIteration as finished:
                self.written = finished.value
                return
            new = step.start + len(step.tokens) - len(request.token_ids or ())
            yield Stage(begin + length * new / total, f"{doing}: {new} of {total} tokens")


def _is_allowed(changes: tuple[Intervention, ...], fed: RunRequest, engine: LocalEngineProtocol) -> bool:
    try:
        engine.check(dataclasses.replace(fed, interventions=changes))
    except ValueError:
        return False
    return True


def _without_logits(trace: Trace) -> Trace:
    return dataclasses.replace(trace, data=trace.data.drop_vars("logits"))
