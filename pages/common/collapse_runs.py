"""Nano models that are trained while a visitor looks on, two at most in a session, each in a thread of its own."""

import dataclasses
import threading
from typing import Any

import numpy as np
import streamlit as st
import xarray as xr

from pages.common import limits

SIDES = ("A", "B")
STEPS = 400  # of a run; as `model.train.nano.STEPS`
WINDOW = 25  # steps over which losses and loads are put together
# What can balance the experts: strengths to choose from, and the one it begins with.
STRENGTHS = {
    "nothing": ((0.0,), 0.0),
    "bias": ((0.0005, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2), 0.02),
    "loss": ((0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0), 0.01),
}


@dataclasses.dataclass(eq=False)
class NanoRun:
    """One run; `lines` grows while it goes."""

    settings: dict[str, Any]  # of `model.train.nano.Nano`
    lines: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    cancel: threading.Event = dataclasses.field(default_factory=threading.Event)
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    error: str | None = None

    @property
    def going(self) -> bool:
        """Whether it has not ended."""
        return not self.done.is_set()

    @property
    def name(self) -> str:
        """What balances it, in a few words."""
        method, strength = self.settings["method"], self.settings["strength"]
        parts = [method if method == "nothing" else f"{method} {strength:g}"]
        parts += ["softmax"] if self.settings["softmax"] else []
        parts += [] if self.settings["limit_groups"] else ["no groups"]
        return ", ".join(parts)

    def start(self) -> None:
        """Begin in a thread of its own."""
        threading.Thread(target=_train, args=(self, _turns()), daemon=True).start()

    def loss(self) -> xr.DataArray:
        """Mean over the last steps up to each, [step]."""
        losses = np.array([line["loss"] for line in self.lines])
        sums = np.cumsum(np.insert(losses, 0, 0.0))
        first = np.maximum(np.arange(len(losses)) - WINDOW + 1, 0)
        means = (sums[1:] - sums[first]) / (np.arange(len(losses)) + 1 - first)
        return xr.DataArray(means, dims="step", coords={"step": np.arange(len(losses)) + 1})

    def load(self) -> xr.DataArray:
        """Ratio to uniform over spans of `WINDOW` steps, [step, moe_layer, expert]."""
        lines = list(self.lines)
        spans = [lines[first : first + WINDOW] for first in range(0, len(lines), WINDOW)]
        layers = list(lines[0]["load"])
        counts = np.array(
            [[np.sum([line["load"][layer] for line in span], axis=0) for layer in layers] for span in spans]
        )
        coords = {"step": [span[-1]["step"] for span in spans], "moe_layer": [int(layer) for layer in layers]}
        return xr.DataArray(
            counts / counts.mean(-1, keepdims=True), dims=("step", "moe_layer", "expert"), coords=coords
        )  # fmt: skip

    def alarms(self) -> list[tuple[int, str]]:
        """Step and what the watch said."""
        return [(line["step"], said) for line in list(self.lines) for said in line.get("alarms", [])]


def _train(run: NanoRun, turns: threading.Semaphore) -> None:
    """Train to the end, or until the run is cancelled."""
    try:
        from model.train.nano import Nano, train_nano

        with turns:
            for line in train_nano(Nano(**run.settings, steps=STEPS), run.cancel):
                run.lines.append(line)
    except (ValueError, MemoryError) as problem:
        run.error = str(problem) or "the machine ran out of memory"
    finally:
        run.done.set()


@st.cache_resource(show_spinner=False)
def _turns() -> threading.Semaphore:
    """At most so many runs of all visitors go on at once; the others wait for their turn."""
    return threading.Semaphore(limits.CONCURRENT_RUNS)


def runs() -> dict[str, NanoRun]:
    """Those of this session, by side."""
    return st.session_state.setdefault("nano-runs", {})


def start(side: str, settings: dict[str, Any]) -> None:
    """Begin a run on a side, in place of what was there. A callback."""
    stop(side)
    runs()[side] = NanoRun(settings)
    runs()[side].start()


def stop(side: str) -> None:
    """End the run on a side after the step it is at; what was done stays. Again is harmless. A callback."""
    if side in runs():
        runs()[side].cancel.set()
