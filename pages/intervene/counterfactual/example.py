"""The recorded experiment on the recorded example, shown until the visitor runs an experiment."""

from typing import TYPE_CHECKING

import streamlit as st

from model.run.interventions import Intervention
from model.trace.trace import Trace
from pages.common import session
from pages.intervene.counterfactual import runs
from pages.intervene.counterfactual.runs import Experiment

if TYPE_CHECKING:
    from model.run.counterfactual import Counterfactual

FILE = "counterfactual.safetensors.gz"  # as `model.run.recorded` writes it


def of(trace: Trace) -> Experiment | None:
    """Return the recorded experiment if this trace is the recorded example and the session has run no experiment."""
    example = session.recorded()
    if example is None or example.trace is not trace or runs.has_run():
        return None
    result = _result()
    if result is None or not _is_about(result, trace):
        return None
    experiment = Experiment(trace, result.question.interventions, result, complete=True)
    experiment.done.set()
    return experiment


def notice(experiment: Experiment, change: tuple[Intervention, ...]) -> str:
    """Return the line above the recorded experiment; it says whether the recorded change is the chosen `change`."""
    if experiment.interventions == change:
        return ":gray-badge[recorded] This is a recorded experiment. Press Run to repeat it here."
    return ":gray-badge[recorded] This is another experiment on the same text. Press Run for the one chosen above."


@st.cache_resource(show_spinner="Reading the recorded experiment")
def _result() -> "Counterfactual | None":
    from model.run import counterfactual_file

    path = session.RECORDED / FILE
    return counterfactual_file.loads(path.read_bytes()) if path.is_file() else None


def _is_about(result: "Counterfactual", trace: Trace) -> bool:
    original = result.original
    assert original is not None
    same_weights = original.model.get("weights_sha256") == trace.model.get("weights_sha256")
    return same_weights and original.data["token_id"].equals(trace.data["token_id"])
