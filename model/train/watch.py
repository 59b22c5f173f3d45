"""Alarms of a training run, raised from the log lines of its steps.

An alarm is raised when its condition becomes true. It is raised again only if the condition becomes false and then true
again. A condition that only evaluations can check keeps its value until the next evaluation.

Source: DeepSeek-V3 report (arXiv 2412.19437), abstract (no loss spikes, no roll-backs); MaxVio: arXiv 2408.15664.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from model.network.config import ModelConfig

SPIKE, DEAD, COLLAPSE, RUNAWAY, OVERFITTING, NOT_FINITE = KINDS = (
    "loss spike",
    "dead experts",
    "collapse",
    "runaway bias",
    "overfitting",
    "not finite",
)
REMEMBERED = 50  # number of steps for the mean loss and for the load
SPIKE_NATS, SPIKE_DEVIATIONS = 0.5, 6.0
COLLAPSED_SHARE = 0.5  # share of the highest possible load of one expert
RUNAWAY_BIAS = 2.0  # spread of biases; an affinity is at most 1, so the bias decides against any affinity
WORSE_EVALUATIONS = 3  # consecutive evaluations


@dataclasses.dataclass
class Watch:
    """Keeps the last steps of one run, and checks each new step for alarms."""

    shape: ModelConfig
    _losses: collections.deque[float] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=REMEMBERED))
    _loads: collections.deque[Mapping[str, list[int]]] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=REMEMBERED)
    )
    _evaluations: list[tuple[float, float]] = dataclasses.field(default_factory=list)  # held-out bits, training loss
    _holding: set[str] = dataclasses.field(default_factory=set)

    @classmethod
    def after(cls, shape: ModelConfig, lines: Iterable[Mapping[str, Any]]) -> "Watch":
        """Return a watch that has already checked the lines of a log, for a resumed run."""
        watch = cls(shape)
        for line in lines:
            watch.check(line)
        return watch

    def check(self, line: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return the new `alarms` of a step, one line each; an empty dict without new alarms.

        A line begins with the kind of the alarm, one of `KINDS`.
        """
        alarms = dict(alarm for alarm in (self._not_finite(line), self._spike(line), self._overfitting(line)) if alarm)
        self._loads.append(line["load"])
        if len(self._loads) == REMEMBERED:
            alarms |= self._load_alarms()
        alarms |= self._runaway(line)
        new = [f"{kind}: {message}" for kind, message in alarms.items() if kind not in self._holding]
        self._holding = set(alarms) | {kind for kind in self._holding if _is_unchecked(kind, line)}
        return {"alarms": new} if new else {}

    def _not_finite(self, line: Mapping[str, Any]) -> tuple[str, str] | None:
        values = {name: line[name] for name in ("loss", "grad_norm") if not math.isfinite(line[name])}
        return (NOT_FINITE, ", ".join(f"{name} is {value}" for name, value in values.items())) if values else None

    def _spike(self, line: Mapping[str, Any]) -> tuple[str, str] | None:
        loss, earlier = line["loss"], np.array(self._losses)
        if math.isfinite(loss):
            self._losses.append(loss)
        if len(earlier) < REMEMBERED:
            return None
        limit = earlier.mean() + max(SPIKE_NATS, SPIKE_DEVIATIONS * earlier.std())
        return (
            (SPIKE, f"loss {loss:.3g}, but {earlier.mean():.3g} on average over the last {REMEMBERED} steps")
            if loss > limit
            else None
        )

    def _overfitting(self, line: Mapping[str, Any]) -> tuple[str, str] | None:
        if "heldout" not in line:
            return None
        bits = float(np.mean(list(line["heldout"].values())))
        self._evaluations.append((bits, float(np.mean(self._losses or [math.nan]))))
        last = self._evaluations[-WORSE_EVALUATIONS - 1 :]
        heldout, training = np.diff([pair[0] for pair in last]), np.diff([pair[1] for pair in last])
        if len(heldout) < WORSE_EVALUATIONS or not ((heldout > 0).all() and (training < 0).all()):
            return None
        return (
            OVERFITTING,
            f"held-out bits per byte rose at {WORSE_EVALUATIONS} evaluations in a row while the loss fell",
        )

    def _load_alarms(self) -> dict[str, str]:
        alarms = {}
        for layer in self._loads[-1]:
            counts = np.sum([load[layer] for load in self._loads], axis=0)
            ratios = counts / counts.mean()
            most = self.shape.num_experts / self.shape.top_k  # load ratio of an expert that every token selects
            dead = np.flatnonzero(counts == 0)
            if len(dead):
                alarms[f"{DEAD} in L{layer}"] = f"{len(dead)} of {len(counts)} got no token in {REMEMBERED} steps"
            if ratios.max() > COLLAPSED_SHARE * most:
                alarms[f"{COLLAPSE} in L{layer}"] = f"E{ratios.argmax()} has a load ratio of {ratios.max():.3g}"
        return alarms

    def _runaway(self, line: Mapping[str, Any]) -> dict[str, str]:
        alarms = {}
        for layer, biases in line.get("bias", {}).items():
            spread = np.ptp(biases)
            if spread > RUNAWAY_BIAS:
                alarms[f"{RUNAWAY} in L{layer}"] = f"biases span {spread:.3g}, but an affinity is at most 1"
        return alarms


def _is_unchecked(kind: str, line: Mapping[str, Any]) -> bool:
    """Whether the line of a step lacks the field from which this kind of alarm is raised."""
    fields = {RUNAWAY: "bias", OVERFITTING: "heldout"}
    return any(kind.startswith(name) and field not in line for name, field in fields.items())
