"""Experiments of a session: started, followed, stopped, and cached by trace and change."""

import dataclasses
from typing import TYPE_CHECKING

import streamlit as st
import xarray as xr
from streamlit.delta_generator import DeltaGenerator

from model.run.interventions import Intervention
from model.run.request import RequestError
from model.trace import effects
from model.trace.trace import Trace
from pages.common import heads, jobs, limits
from pages.common.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from model.run.counterfactual import Counterfactual
    from pages.common.models import AnyEngine

RAN = "ran"  # key in the URL: the experiment was run, so a link runs it again
Key = tuple[int, tuple[Intervention, ...]]


@dataclasses.dataclass(eq=False)
class Experiment(Job):
    """One experiment; `result` is filled while it runs."""

    trace: Trace
    interventions: tuple[Intervention, ...]
    result: "Counterfactual | None" = None

    @property
    def has_effect(self) -> bool:
        """Whether the experiment ended with an effect to show."""
        return self.done.is_set() and self.result is not None and self.result.effect is not None

    @property
    def outcome(self) -> "Counterfactual":
        """The result; it exists if `has_effect`."""
        assert self.result is not None
        return self.result

    @property
    def effect(self) -> xr.Dataset:
        """The effect of the change, as `model.trace.effects.effect` returns it; it exists if `has_effect`."""
        assert self.outcome.effect is not None
        return self.outcome.effect

    def band(self, variable: str) -> "tuple[np.ndarray, np.ndarray] | None":
        """Return the lowest and highest value of a variable among the control's draws; None without a control."""
        draws = self.outcome.draws
        return None if draws is None else effects.band(draws[variable])


def ask() -> None:
    """Request the chosen experiment; the script run after this callback executes it."""
    st.session_state["experiment-wanted"] = True


def stop() -> None:
    """Stop the session's experiments and keep what they have computed. A callback."""
    for experiment in _cache().values():
        experiment.stop()


def going() -> bool:
    """Return whether an experiment of this session is running or waits for its turn."""
    return any(experiment.waiting for experiment in _cache().values())


def has_run() -> bool:
    """Return whether this session has run an experiment, or runs one."""
    return bool(_cache())


def current(trace: Trace, interventions: tuple[Intervention, ...]) -> Experiment | None:
    """Return the experiment with this trace and change; None if it was not requested.

    If the button or a link has just requested the experiment, create it. The page's URL then records that it was run.
    """
    state, cache = st.session_state, _cache()
    is_linked = not state.get("experiment-linked") and RAN in st.query_params
    state["experiment-linked"] = True
    is_wanted = state.pop("experiment-wanted", False) or is_linked
    key: Key = (id(trace), interventions)
    if is_wanted and (key not in cache or not cache[key].complete):
        stop()
        jobs.keep(cache, key, Experiment(trace, interventions), limits.KEPT_EXPERIMENTS)
    _mirror(key in cache)
    return cache.get(key)


def _cache() -> dict[Key, Experiment]:
    """Return this session's experiments by (`id` of the trace, change). Ids are unique, as the traces are held."""
    return st.session_state.setdefault("experiments", {})


def _mirror(ran: bool) -> None:
    """Record in the page's URL whether the experiment was run; a link with this key runs it again."""
    if ran and RAN not in st.query_params:
        st.query_params[RAN] = "yes"
    elif not ran and RAN in st.query_params:
        del st.query_params[RAN]


def execute(experiment: Experiment, placeholder: DeltaGenerator) -> None:
    """Run the job of an experiment until it ends, and show its progress in the placeholder."""
    find = heads.finder(experiment.trace)
    jobs.execute(experiment, placeholder, lambda: _run(experiment, find))


def _run(experiment: Experiment, find: "Callable[[], AnyEngine]") -> None:
    """Run an experiment on the model that made its trace; this is the work of its job.

    Raises:
        RequestError: the model is not installed here, or the text is too long to compare distributions.
    """
    from model.run.counterfactual import Counterfactual, Question

    trace = experiment.trace
    experiment.advance(0.0, "Loading the model")
    engine = find()
    if trace.num_tokens * engine.shape.vocab_size > limits.EXPERIMENT_LOGITS:
        most = limits.EXPERIMENT_LOGITS // engine.shape.vocab_size
        raise RequestError(f"a text of {trace.num_tokens:,} tokens is too long to compare; at most {most:,} are")
    new = limits.NEW_TOKENS if engine.abilities.new_tokens else 0
    question = Question.about(trace, experiment.interventions, new)
    experiment.result = Counterfactual(question)
    for stage in experiment.result.run(engine, experiment.cancel):
        experiment.advance(stage.share, f"Running: {stage.doing}")
