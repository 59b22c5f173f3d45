"""Training logs as labelled arrays: summaries of finished runs (`TrainingLog`), and the log lines of a run so far.

A summary is what `model/train/summary.py` writes; a log line is what a trainer yields after each step.

    >>> lines = [{"step": step, "loss": float(step), "load": {"1": [3, 1]}} for step in (1, 2)]
    >>> running_loss(lines, 25).values.tolist()
    [1.0, 1.5]
    >>> relative_loads(lines, 25).sel(moe_layer=1).values.tolist()
    [[1.5, 0.5]]
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from model.trace import metrics, steps


@dataclasses.dataclass(frozen=True)
class TrainingLog:
    """The summary of one run.

    Attributes:
        name: of the run.
        says: its special feature, in one sentence.
        values: the summary; `model/train/summary.py` says what it holds.
    """

    name: str
    says: str
    values: Mapping[str, Any]

    @property
    def stages(self) -> list[tuple[int, str]]:
        """First step and name of each stage."""
        return [(step, name) for step, name in self.values.get("stages", [])]

    @property
    def alarms(self) -> list[tuple[int, str]]:
        """Step and message of each alarm."""
        return [(step, message) for step, message in self.values.get("alarms", [])]

    @property
    def roll_backs(self) -> list[tuple[int, str]]:
        """First step after each return to a saved state, and its reason."""
        return [(step, reason) for step, reason in self.values.get("roll_backs", [])]

    @property
    def layers(self) -> list[int]:
        """Model layer numbers of the layers with a router, that of a prediction module last."""
        return [int(layer) for layer in self.values["load"]]

    def curve(self, kind: str) -> xr.DataArray:
        """Return a mean over spans of steps, [step]; NaN where it was not logged."""
        means = [np.nan if value is None else value for value in self.values[kind]]
        return xr.DataArray(means, dims="step", coords={"step": self.values["step"]})

    def load(self) -> xr.DataArray:
        """Return the load ratio to uniform, [step, moe_layer, expert]; NaN before a layer was added."""
        layers = self.values["load"].values()
        missing = [np.nan] * len(next(row for rows in layers for row in rows if row))
        ratios = [[row or missing for row in rows] for rows in layers]
        coords = {"moe_layer": self.layers, "step": self.values["step"]}
        return xr.DataArray(ratios, dims=("moe_layer", "step", "expert"), coords=coords).transpose("step", ...)

    def balance(self) -> dict[str, xr.DataArray]:
        """Return MaxVio, normalised entropy and the share of dead experts by name, each [step, moe_layer]."""
        load = self.load()
        entropy = [metrics.normalised_entropy(load.isel(step=index)) for index in range(load.sizes["step"])]
        return {
            "MaxVio": metrics.max_violation(load),
            "normalised entropy": xr.concat(entropy, load["step"]),
            "share of dead experts": metrics.dead_experts(load).mean("expert"),
        }

    def bias(self, layer: int) -> xr.DataArray | None:
        """Return a layer's selection biases, [step, expert]; None where they were not logged."""
        rows = self.values.get("bias", {}).get(str(layer))
        if rows is None:
            return None
        return xr.DataArray(rows, dims=("step", "expert"), coords={"step": self.values["bias_step"]})

    def at_evaluations(self, kind: str) -> dict[str, xr.DataArray]:
        """Return what evaluations measured, each [step].

        Args:
            kind: `heldout` by stream, `saturation` by layer, or `positions` by span.
        """
        evaluated = self.values.get("position_step" if kind == "positions" else "look_step", [])
        return {
            name: xr.DataArray(values, dims="step", coords={"step": evaluated})
            for name, values in self.values.get(kind, {}).items()
        }

    def answers(self, kind: str) -> xr.Dataset:
        """Return answers to held-out prompts of a kind, each [step]: counts, the `share` of right ones, its bounds."""
        evaluations = self.values["answers"][kind]
        names = ("right", "exact", "of", "low", "high")
        counts = {name: ("step", [evaluation[name] for evaluation in evaluations]) for name in names}
        table = xr.Dataset(counts, coords={"step": self.values["answer_step"]})
        return table.assign(share=table["right"] / table["of"])


def running_loss(lines: Sequence[Mapping[str, Any]], window: int) -> xr.DataArray:
    """Return the mean loss over the last `window` steps up to each, [step]."""
    losses = xr.DataArray([line["loss"] for line in lines], dims="step", coords={"step": _steps(lines)})
    return steps.running_mean(losses, window)


def relative_loads(lines: Sequence[Mapping[str, Any]], window: int) -> xr.DataArray:
    """Return the load ratio to uniform over spans of `window` steps, [step, moe_layer, expert]."""
    layers = list(lines[0]["load"])
    counts = xr.DataArray(
        [[line["load"][layer] for layer in layers] for line in lines],
        dims=("step", "moe_layer", "expert"),
        coords={"step": _steps(lines), "moe_layer": [int(layer) for layer in layers]},
    )
    return metrics.relative_load(steps.sums(counts, window))


def last_balance(load: xr.DataArray) -> tuple[float, int]:
    """Return the largest MaxVio of any layer at the last step, and the number of experts without a token then.

    Args:
        load: [step, moe_layer, expert], as `relative_loads` gives it.
    """
    last = load.isel(step=-1)
    return float(metrics.max_violation(last).max()), int(metrics.dead_experts(last).sum())


def _steps(lines: Sequence[Mapping[str, Any]]) -> list[int]:
    return [line["step"] for line in lines]
