"""Looks at every step of a run and raises an alarm where training goes wrong.

Each alarm is raised once when it begins to hold, and again only after it has ceased to; what only some steps show holds
until the next step that shows it. What is looked at is what the log line of a step holds; nothing is computed anew.

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
REMEMBERED = 50  # steps that are compared with, and over which load is added up
SPIKE_NATS, SPIKE_DEVIATIONS = 0.5, 6.0
COLLAPSED_SHARE = 0.5  # half of the work that one expert could at most take on
RUNAWAY_BIAS = 2.0  # twice what an affinity can be: the gate's own word hardly counts any more
WORSE_LOOKS = 3


@dataclasses.dataclass
class Watch:
    """Remembers the last steps of one run."""

    shape: ModelConfig
    _losses: collections.deque[float] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=REMEMBERED))
    _loads: collections.deque[Mapping[str, list[int]]] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=REMEMBERED)
    )
    _looks: list[tuple[float, float]] = dataclasses.field(default_factory=list)  # held-out bits, training loss
    _holding: set[str] = dataclasses.field(default_factory=set)

    @classmethod
    def after(cls, shape: ModelConfig, lines: Iterable[Mapping[str, Any]]) -> "Watch":
        """A watch that has seen the lines of a log."""
        watch = cls(shape)
        for line in lines:
            watch.see(line)
        return watch

    def see(self, line: Mapping[str, Any]) -> dict[str, list[str]]:
        """What begins to go wrong with this step: `alarms`, lines that begin with their kind; empty if nothing does."""
        found = dict(alarm for alarm in (self._not_finite(line), self._spike(line), self._overfitting(line)) if alarm)
        self._loads.append(line["load"])
        if len(self._loads) == REMEMBERED:
            found |= self._load_alarms()
        found |= self._runaway(line)
        new = [f"{kind}: {said}" for kind, said in found.items() if kind not in self._holding]
        self._holding = set(found) | {kind for kind in self._holding if _unseen(kind, line)}
        return {"alarms": new} if new else {}

    def _not_finite(self, line: Mapping[str, Any]) -> tuple[str, str] | None:
        values = {name: line[name] for name in ("loss", "grad_norm") if not math.isfinite(line[name])}
        return (NOT_FINITE, ", ".join(f"{name} is {value}" for name, value in values.items())) if values else None

    def _spike(self, line: Mapping[str, Any]) -> tuple[str, str] | None:
        loss, known = line["loss"], np.array(self._losses)
        if math.isfinite(loss):
            self._losses.append(loss)
        if len(known) < REMEMBERED:
            return None
        limit = known.mean() + max(SPIKE_NATS, SPIKE_DEVIATIONS * known.std())
        return (
            (SPIKE, f"loss {loss:.3g} where the last {REMEMBERED} steps had {known.mean():.3g}")
            if loss > limit
            else None
        )

    def _overfitting(self, line: Mapping[str, Any]) -> tuple[str, str] | None:
        if "heldout" not in line:
            return None
        self._looks.append((float(np.mean(list(line["heldout"].values()))), float(np.mean(self._losses or [math.nan]))))
        last = self._looks[-WORSE_LOOKS - 1 :]
        heldout, training = np.diff([look[0] for look in last]), np.diff([look[1] for look in last])
        if len(heldout) < WORSE_LOOKS or not ((heldout > 0).all() and (training < 0).all()):
            return None
        return OVERFITTING, f"held-out text grew worse at {WORSE_LOOKS} looks in a row while the loss fell"

    def _load_alarms(self) -> dict[str, str]:
        found = {}
        for layer in self._loads[-1]:
            counts = np.sum([load[layer] for load in self._loads], axis=0)
            ratios = counts / counts.mean()
            most = self.shape.num_experts / self.shape.top_k  # ratio of an expert that every token takes
            dead = np.flatnonzero(counts == 0)
            if len(dead):
                found[f"{DEAD} in L{layer}"] = f"{len(dead)} of {len(counts)} took no token in {REMEMBERED} steps"
            if ratios.max() > COLLAPSED_SHARE * most:
                found[f"{COLLAPSE} in L{layer}"] = f"E{ratios.argmax()} takes {ratios.max():.3g} times a fair share"
        return found

    def _runaway(self, line: Mapping[str, Any]) -> dict[str, str]:
        found = {}
        for layer, biases in line.get("bias", {}).items():
            spread = np.ptp(biases)
            if spread > RUNAWAY_BIAS:
                found[f"{RUNAWAY} in L{layer}"] = f"biases lie {spread:.3g} apart, an affinity is at most 1"
        return found


def _unseen(kind: str, line: Mapping[str, Any]) -> bool:
    """Whether a step's line says nothing of what an alarm is about."""
    about = {RUNAWAY: "bias", OVERFITTING: "heldout"}
    return any(kind.startswith(name) and field not in line for name, field in about.items())
