"""The widgets of the Training page: a run, other runs to draw beside it, and a layer."""

from collections.abc import Mapping

import streamlit as st

from model.trace.training_log import TrainingLog
from pages.common import controls


def logs(by_name: Mapping[str, TrainingLog]) -> tuple[TrainingLog, list[TrainingLog]]:
    """Draw lists of runs; return the chosen run, and the runs whose loss is drawn beside it."""
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    meaning = "The training runs of the models that come with the app, and small runs that fail in instructive ways."
    name = left.selectbox("Run", list(by_name), key="log", bind="query-params", help=meaning)
    others = [other for other in by_name if other != name]
    related = [other for other in others if other.split()[0] == str(name).split()[0]]
    beside = right.multiselect(
        "Beside it", others, related[:3], key=f"beside-{name}", bind="query-params",
        help="Further runs whose loss the first figure shows.",
    )  # fmt: skip
    return by_name[name], [by_name[other] for other in beside]


def layer(log: TrainingLog) -> int:
    """Draw a list of the MoE layers and return the chosen model layer number."""
    return controls.layer(None, options=log.layers)
