"""Experiments of a session: started, followed, stopped, and kept by their question."""

import dataclasses
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.run.request import Intervention, RequestError
from model.trace.trace import Trace
from pages.common import heads, jobs, limits
from pages.common.jobs import Job

if TYPE_CHECKING:
    from model.run.counterfactual import Counterfactual
    from model.run.engine import Engine

RAN = "ran"  # in the address: the experiment was run, so a link runs it again
Key = tuple[int, tuple[Intervention, ...]]


@dataclasses.dataclass(eq=False)
class Experiment(Job):
    """One experiment; `found` fills while it runs."""

    trace: Trace
    interventions: tuple[Intervention, ...]
    found: "Counterfactual | None" = None

    @property
    def has_effect(self) -> bool:
        """Whether there is something to show."""
        return self.done.is_set() and self.found is not None and self.found.effect is not None


def ask() -> None:
    """Run what the widgets say, in this script run. A callback."""
    st.session_state["experiment-wanted"] = True


def stop() -> None:
    """Stop the session's experiments; what was done stays. A callback."""
    for one in _kept().values():
        one.stop()


def going() -> bool:
    """Whether one of this session has not ended."""
    return any(one.waiting for one in _kept().values())


def current(trace: Trace, interventions: tuple[Intervention, ...]) -> Experiment | None:
    """The experiment of this trace and change, made when it was asked for by button or link; else None.

    The address is kept in step with it.
    """
    state, kept = st.session_state, _kept()
    linked = not state.get("experiment-linked") and RAN in st.query_params
    state["experiment-linked"] = True
    wanted = state.pop("experiment-wanted", False) or linked
    key: Key = (id(trace), interventions)
    if wanted and (key not in kept or not kept[key].complete):
        stop()
        jobs.keep(kept, key, Experiment(trace, interventions), limits.KEPT_EXPERIMENTS)
    _mirror(key in kept)
    return kept.get(key)


def _kept() -> dict[Key, Experiment]:
    """Those of this session; the trace that each holds keeps its `id` from being another's."""
    return st.session_state.setdefault("experiments", {})


def _mirror(ran: bool) -> None:
    if ran and RAN not in st.query_params:
        st.query_params[RAN] = "yes"
    elif not ran and RAN in st.query_params:
        del st.query_params[RAN]


def execute(experiment: Experiment, place: DeltaGenerator) -> None:
    """Drive it to its end."""
    jobs.execute_on(experiment, place, lambda: _engine(experiment), lambda engine: _follow(experiment, engine, place))


def _engine(experiment: Experiment) -> "Engine":
    """The model that made the trace.

    Raises:
        RequestError: it is not at hand, or the text is too long to compare distributions of.
    """
    trace = experiment.trace
    engine = heads.require_maker(trace)
    if trace.num_tokens * engine.config.vocab_size > limits.EXPERIMENT_LOGITS:
        most = limits.EXPERIMENT_LOGITS // engine.config.vocab_size
        raise RequestError(f"a text of {trace.num_tokens:,} tokens is too long to compare; at most {most:,} are")
    return engine


def _follow(experiment: Experiment, engine: "Engine", place: DeltaGenerator) -> None:
    from model.run.counterfactual import Counterfactual, Question

    new = limits.NEW_TOKENS if engine.disk is None else 0  # from the disk every new token would read all layers
    question = Question.about(experiment.trace, experiment.interventions, new)
    experiment.found, show = Counterfactual(question), jobs.paced(place)
    for stage in experiment.found.run(engine, experiment.cancel):
        show(stage.share, f"Running: {stage.doing}")
