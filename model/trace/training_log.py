"""Training logs as labelled arrays: summaries of finished runs (`TrainingLog`), and the log lines of an active run.

`model/train/summary.py` writes a summary of a run; a trainer yields a log line after each step.

    >>> lines = [{"step": step, "loss": float(step), "load": {"1": [3, 1]}} for step in (1, 2)]
    >>> running_loss(lines, 25).values.tolist()
    [1.0, 1.5]
    >>> relative_loads(lines, 25).sel(moe_layer=1).values.tolist()
    [[1.5, 0.5]]
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from model.trace import metrics, steps


@dataclasses.dataclass(frozen=True)
class TrainingLog:
    """The summary of one run.

    Attributes:
        name: name of the run.
        says: one sentence on what is special about the run.
        values: the summary; `model/train/summary.py` describes its entries.
    """

    name: str
    says: str
    values: Mapping[str, Any]

    @property
    def begin(self) -> int:
        """Number of training steps of the model before this run; the first step of this run has the next number."""
        return self.values.get("begin", 0)

    @property
    def stages(self) -> list[tuple[int, str]]:
        """First step and name of each stage."""
        return self._events("stages")

    @property
    def alarms(self) -> list[tuple[int, str]]:
        """Step and message of each alarm."""
        return self._events("alarms")

    @property
    def roll_backs(self) -> list[tuple[int, str]]:
        """First step after each return to a saved state, and the reason for the return."""
        return self._events("roll_backs")

    @property
    def span(self) -> tuple[int, int]:
        """First and last step."""
        return self.begin + 1, self._steps()[-1]

    @property
    def has_one_objective(self) -> bool:
        """Whether the loss is the same quantity at all steps. It is not if the run has stages with different losses."""
        return not {"gained", "reward"} & self.values.keys()

    def _events(self, kind: str) -> list[tuple[int, str]]:
        return [(self.begin + step, message) for step, message in self.values.get(kind, [])]

    def _steps(self, kind: str = "step") -> list[int]:
        return [self.begin + step for step in self.values.get(kind, [])]

    @property
    def layers(self) -> list[int]:
        """The model layer numbers of the layers with a router; the layer of a multi-token-prediction module is last."""
        return [int(layer) for layer in self.values["load"]]

    def curve(self, kind: str) -> xr.DataArray:
        """Return a logged quantity, [step]; NaN where it was not logged.

        A value is the mean over a span of steps, and has the last step of the span as its label.
        """
        means = [np.nan if value is None else value for value in self.values[kind]]
        return xr.DataArray(means, dims="step", coords={"step": self._steps()})

    def load(self) -> xr.DataArray:
        """Return load ratios, [step, moe_layer, expert]; NaN before a layer was added to the model."""
        layers = self.values["load"].values()
        missing = [np.nan] * len(next(row for rows in layers for row in rows if row))
        ratios = [[row or missing for row in rows] for rows in layers]
        coords = {"moe_layer": self.layers, "step": self._steps()}
        return xr.DataArray(ratios, dims=("moe_layer", "step", "expert"), coords=coords).transpose("step", ...)

    def balance(self) -> dict[str, xr.DataArray]:
        """Return MaxVio, normalised entropy and share of dead experts, each [step, moe_layer], by name."""
        load = self.load()
        entropy = [metrics.normalised_entropy(load.isel(step=index)) for index in range(load.sizes["step"])]
        return {
            "MaxVio": metrics.max_violation(load),
            "normalised entropy": xr.concat(entropy, load["step"]),
            "share of dead experts": metrics.dead_experts(load).mean("expert"),
        }

    def bias(self, layer: int) -> xr.DataArray | None:
        """Return a layer's selection biases, [step, expert]; None if they were not logged."""
        rows = self.values.get("bias", {}).get(str(layer))
        if rows is None:
            return None
        return xr.DataArray(rows, dims=("step", "expert"), coords={"step": self._steps("bias_step")})

    def at_evaluations(self, kind: str) -> dict[str, xr.DataArray]:
        """Return the values of one kind of evaluation, each [step], as a dict.

        Args:
            kind: `heldout` (keys: names of held-out text streams), `saturation` (keys: layer numbers), or `positions`
                (keys: spans of positions).
        """
        evaluated = self._steps("position_step" if kind == "positions" else "look_step")
        return {
            name: xr.DataArray(values, dims="step", coords={"step": evaluated})
            for name, values in self.values.get(kind, {}).items()
        }

    def answers(self, kind: str) -> xr.Dataset:
        """Return the results on held-out prompts of one kind, each [step].

        Variables: the numbers of right answers (`right`), of answers whose whole text equals the reference (`exact`)
        and of all answers (`of`); the `share` of right answers, and the bounds of its interval, `low` and `high`.
        """
        evaluations = self.values["answers"][kind]
        names = ("right", "exact", "of", "low", "high")
        counts = {name: ("step", [evaluation[name] for evaluation in evaluations]) for name in names}
        table = xr.Dataset(counts, coords={"step": self._steps("answer_step")})
        return table.assign(share=table["right"] / table["of"])


def running_loss(lines: Sequence[Mapping[str, Any]], window: int) -> xr.DataArray:
    """Return the loss at each step, averaged over the last `window` steps, [step]."""
    losses = xr.DataArray([line["loss"] for line in lines], dims="step", coords={"step": _steps(lines)})
    return steps.running_mean(losses, window)


def relative_loads(lines: Sequence[Mapping[str, Any]], window: int) -> xr.DataArray:
    """Return load ratios, one per span of `window` steps, [step, moe_layer, expert]; `step` is the span's last step."""
    layers = list(lines[0]["load"])
    counts = xr.DataArray(
        [[line["load"][layer] for layer in layers] for line in lines],
        dims=("step", "moe_layer", "expert"),
        coords={"step": _steps(lines), "moe_layer": [int(layer) for layer in layers]},
    )
    return metrics.relative_load(steps.sums(counts, window))


class Outcome(NamedTuple):
    """Results at the end of a run.

    Attributes:
        busiest: load ratio of the busiest expert of all layers.
        share: share of the tokens that select the busiest expert.
        idle: number of experts without a token, over all layers.
        num_experts: number of experts, over all layers.
        loss: mean loss, nats per token.
    """

    busiest: float
    share: float
    idle: int
    num_experts: int
    loss: float

    @property
    def collapsed(self) -> bool:
        """Whether one expert gets more than half of the tokens, as `model.train.watch` defines a collapse."""
        return self.share > 0.5


def outcome(lines: Sequence[Mapping[str, Any]], window: int, top_k: int) -> Outcome:
    """Return how a run ended, from its last `window` steps.

    Args:
        lines: log lines, one per step.
        window: number of steps at the end of the run.
        top_k: selected experts per token.
    """
    load = relative_loads(lines[-window:], window)
    busiest, idle = last_balance(load)
    busiest += 1
    loss = float(running_loss(lines[-window:], window)[-1])
    return Outcome(busiest, busiest * top_k / load.sizes["expert"], idle, load.isel(step=-1).size, loss)


def last_balance(load: xr.DataArray) -> tuple[float, int]:
    """Return the largest MaxVio of all layers, and the number of experts without a token, both at the last step.

    Args:
        load: load ratios, [step, moe_layer, expert], from `relative_loads`.
    """
    last = load.isel(step=-1)
    return float(metrics.max_violation(last).max()), int(metrics.dead_experts(last).sum())


def _steps(lines: Sequence[Mapping[str, Any]]) -> list[int]:
    return [line["step"] for line in lines]
