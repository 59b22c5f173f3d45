"""The overview above the tabs of the Training page: the alarms of a run, and its loss beside other runs."""

import streamlit as st

from model.trace.training_log import TrainingLog
from pages.common import controls, session
from pages.learn.training import tables
from viz import training as figures

SHOWN_ALARMS = 4
# Loss in the log -> its name in the figure.
_FURTHER_LOSSES = {"mtp_loss": "token after the next one", "indexer_loss": "indexers, sum over layers"}


def answer(log: TrainingLog) -> None:
    """State the steps of a run, and the course of its loss if all steps have the same objective."""
    losses, (first, last) = log.curve("loss").values, log.span
    course = f": the loss went from **{losses[0]:.3g} to {losses[-1]:.3g}** nats per token"
    st.markdown(
        f"**{log.name}**, steps {first:,} to {last:,}{course if log.has_one_objective else ''}. {log.says}",
        help="A step changes the weights once. If a run continues another, its step numbers go on from the other's "
        "last. The losses are means over the first and the last span of steps.",
    )


def alarms(log: TrainingLog) -> None:
    """Show the alarms that the training raised (`model/train/watch.py`), or that it raised none."""
    if not log.alarms:
        st.caption("The checks during training raised no alarm in this run, as far as its log shows.")
        return
    first = "; ".join(f"step {step:,}, {message}" for step, message in log.alarms[:SHOWN_ALARMS])
    number = len(log.alarms) - SHOWN_ALARMS
    st.markdown(f":material/warning: Alarms: {first}{f'; and {number} more' if number > 0 else ''}.")


def loss(log: TrainingLog, beside: list[TrainingLog]) -> None:
    """Show the main figure: the loss of the run, and of the runs beside it."""
    curves = {each.name: each.curve("loss") for each in (log, *beside)}
    curves |= {name: log.curve(kind) for kind, name in _FURTHER_LOSSES.items() if kind in log.values}
    figure = figures.curves(curves, "loss, nats per token", session.theme(), log.stages, log.alarms, log.roll_backs)
    how_to_read = (
        "Measured while training: the mean loss over spans of steps. A run that continues another run begins at the "
        "step where it took over. For the first run, vertical lines mark where stages begin, triangles at the bottom "
        "mark alarms, and arrows mark returns to a saved state; point at a mark to read about it. Losses are "
        "comparable only between runs on the same units (bytes or tokens) and with the same objective."
    )
    controls.chart(figure, "training-loss", tables.by_step(curves), how_to_read)
