"""Nano models that are trained while a visitor looks on, two at most in a session, each in a thread of its own."""

import dataclasses
from typing import Any

import streamlit as st
import xarray as xr

from model.trace import metrics, steps
from pages.common import jobs
from pages.common.jobs import Job

SIDES = ("A", "B")
STEPS = 400  # of a run; as `model.train.demo.nano.STEPS`
WINDOW = 25  # steps over which losses and loads are put together
# What can balance the experts: strengths to choose from, and the one it begins with.
STRENGTHS = {
    "nothing": ((0.0,), 0.0),
    "bias": ((0.0005, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2), 0.02),
    "loss": ((0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0), 0.01),
}


@dataclasses.dataclass(eq=False)
class NanoRun(Job):
    """One run; `lines` grows while it goes."""

    settings: dict[str, Any]  # of `model.train.demo.nano.Nano`
    lines: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        """What balances it, in a few words."""
        method, strength = self.settings["method"], self.settings["strength"]
        parts = [method if method == "nothing" else f"{method} {strength:g}"]
        parts += ["softmax"] if self.settings["softmax"] else []
        parts += [] if self.settings["limit_groups"] else ["no groups"]
        return ", ".join(parts)

    def loss(self) -> xr.DataArray:
        """Mean over the last steps up to each, [step]."""
        lines = list(self.lines)
        losses = xr.DataArray(
            [line["loss"] for line in lines], dims="step", coords={"step": [line["step"] for line in lines]}
        )
        return steps.running_mean(losses, WINDOW)

    def load(self) -> xr.DataArray:
        """Ratio to uniform over spans of `WINDOW` steps, [step, moe_layer, expert]."""
        lines = list(self.lines)
        layers = list(lines[0]["load"])
        counts = xr.DataArray(
            [[line["load"][layer] for layer in layers] for line in lines],
            dims=("step", "moe_layer", "expert"),
            coords={"step": [line["step"] for line in lines], "moe_layer": [int(layer) for layer in layers]},
        )
        return metrics.relative_load(steps.sums(counts, WINDOW))

    def alarms(self) -> list[tuple[int, str]]:
        """Step and what the watch said."""
        return [(line["step"], said) for line in list(self.lines) for said in line.get("alarms", [])]


def _train(run: NanoRun) -> None:
    from model.train.demo.nano import Nano, train_nano

    for line in train_nano(Nano(**run.settings, steps=STEPS), run.cancel):
        run.lines.append(line)


def runs() -> dict[str, NanoRun]:
    """Those of this session, by side."""
    return st.session_state.setdefault("nano-runs", {})


def start(side: str, settings: dict[str, Any]) -> None:
    """Begin a run on a side, in place of what was there. A callback."""
    stop(side)
    run = runs()[side] = NanoRun(settings)
    jobs.stop_with_tab(run)
    jobs.begin(run, lambda: _train(run))


def stop(side: str) -> None:
    """End the run on a side after the step it is at; what was done stays. Again is harmless. A callback."""
    if side in runs():
        runs()[side].stop()
