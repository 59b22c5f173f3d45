"""The runs of the Collapse page: small models on the sides A and B of the page, each trained in its own thread."""

import dataclasses
import gzip
import json
from typing import Any

import streamlit as st
import xarray as xr

from model.run.turns import PASSES
from model.trace.training_log import Outcome, outcome, relative_loads, running_loss
from pages.common import jobs, session
from pages.common.jobs import Job

SIDES = ("A", "B")
FILE = "collapse.json.gz"  # file that `model.train.demo.recorded` writes
STEPS = 400  # steps of a run; equal to `model.train.demo.nano.STEPS`
TOP_K = 2  # experts per token; equal to that of `model.train.demo.nano.Nano.shape`
WINDOW = 25  # steps over which losses are averaged and loads added up
# Balancing method -> strengths to choose from, and the default.
STRENGTHS = {
    "nothing": ((0.0,), 0.0),
    "bias": ((0.0005, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2), 0.02),
    "loss": ((0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0), 0.01),
}


@dataclasses.dataclass(eq=False)
class NanoRun(Job):
    """One run; `lines` receives the lines of its log while it trains."""

    settings: dict[str, Any]  # fields of `model.train.demo.nano.Nano`
    lines: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    recorded: bool = False  # whether the run comes with the app

    @property
    def name(self) -> str:
        """The balancing method and its strength in a few words."""
        method, strength = self.settings["method"], self.settings["strength"]
        parts = [method if method == "nothing" else f"{method} {strength:g}"]
        parts += ["softmax"] if self.settings["softmax"] else []
        parts += [] if self.settings["limit_groups"] else ["no groups"]
        return ", ".join(parts)

    def loss(self) -> xr.DataArray:
        """Return the loss at each step, averaged over the `WINDOW` steps up to it, [step], in nats per byte."""
        return running_loss(list(self.lines), WINDOW)

    def load(self) -> xr.DataArray:
        """Return load ratios, one per span of `WINDOW` steps, [step, moe_layer, expert]; `step` is its last."""
        return relative_loads(list(self.lines), WINDOW)

    def outcome(self) -> Outcome:
        """Return the state of the run after its last step."""
        return outcome(list(self.lines), WINDOW, TOP_K)

    def alarms(self) -> list[tuple[int, str]]:
        """Return step and message of each alarm that the training raised (`model/train/watch.py`)."""
        return [(line["step"], message) for line in list(self.lines) for message in line.get("alarms", [])]


def _train(run: NanoRun) -> None:
    from model.train.demo.nano import Nano, train_nano

    for line in PASSES.each(train_nano(Nano(**run.settings, steps=STEPS), run.cancel), run.cancel):
        run.lines.append(line)


def runs() -> dict[str, NanoRun]:
    """Return the runs of this session by side."""
    return st.session_state.setdefault("nano-runs", {})


def shown() -> dict[str, NanoRun]:
    """Return the run of each side: this session's run, else the recorded one; a side without either is left out."""
    return recorded() | runs()


def recorded() -> dict[str, NanoRun]:
    """Return the runs that come with the app, by side; an empty dict if their file is missing."""
    return _read()


@st.cache_resource(show_spinner=False)
def _read() -> dict[str, NanoRun]:
    path = session.RECORDED / FILE
    if not path.is_file():
        return {}
    sides = json.loads(gzip.decompress(path.read_bytes()))
    by_side = {name: NanoRun(side["settings"], side["lines"], True, complete=True) for name, side in sides.items()}
    for run in by_side.values():
        run.done.set()
    return by_side


def start(side: str, settings: dict[str, Any]) -> None:
    """Start a run on `side`, in place of the last run on this side. A callback."""
    stop(side)
    run = runs()[side] = NanoRun(settings)
    jobs.stop_with_tab(run)
    jobs.begin(run, lambda: _train(run))


def stop(side: str) -> None:
    """Stop the run on a side after its current step and keep its results. A callback."""
    if side in runs():
        runs()[side].stop()
