"""The logs of training runs that come along, as labelled arrays."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
import xarray as xr

from model.trace import metrics
from pages.common import models

FOLDER = models.PRESETS / "logs"


@dataclasses.dataclass(frozen=True)
class Log:
    """One run; see `model/train/summary.py` for what is in it."""

    name: str
    says: str
    values: dict[str, Any]

    @property
    def stages(self) -> list[tuple[int, str]]:
        """First step of each and its name."""
        return [(step, name) for step, name in self.values.get("stages", [])]

    @property
    def alarms(self) -> list[tuple[int, str]]:
        """Step and what was said."""
        return [(step, said) for step, said in self.values.get("alarms", [])]

    @property
    def roll_backs(self) -> list[tuple[int, str]]:
        """First step after going back to a saved state, and why."""
        return [(step, said) for step, said in self.values.get("roll_backs", [])]

    @property
    def layers(self) -> list[int]:
        """Model layer numbers of the layers with a router, that of a prediction module last."""
        return [int(layer) for layer in self.values["load"]]

    def curve(self, kind: str) -> xr.DataArray:
        """A mean over spans of steps, [step]; NaN where it was not logged."""
        found = [np.nan if value is None else value for value in self.values[kind]]
        return xr.DataArray(found, dims="step", coords={"step": self.values["step"]})

    def load(self) -> xr.DataArray:
        """Ratio to uniform, [step, moe_layer, expert]; NaN before a layer was added."""
        layers, width = (
            self.values["load"],
            len(next(row for rows in self.values["load"].values() for row in rows if row)),
        )
        missing = [np.nan] * width
        found = [[row or missing for row in rows] for rows in layers.values()]
        coords = {"moe_layer": self.layers, "step": self.values["step"]}
        return xr.DataArray(found, dims=("moe_layer", "step", "expert"), coords=coords).transpose("step", ...)

    def balance(self) -> dict[str, xr.DataArray]:
        """MaxVio, normalised entropy and share of experts without a token, each [step, moe_layer]."""
        load = self.load()
        entropy = [metrics.normalised_entropy(load.isel(step=place)) for place in range(load.sizes["step"])]
        return {
            "MaxVio": metrics.max_violation(load),
            "normalised entropy": xr.concat(entropy, load["step"]),
            "share of dead experts": metrics.dead_experts(load).mean("expert"),
        }

    def bias(self, layer: int) -> xr.DataArray | None:
        """[step, expert]; None where it was not logged."""
        rows = self.values.get("bias", {}).get(str(layer))
        return None if rows is None else xr.DataArray(
            rows, dims=("step", "expert"), coords={"step": self.values["bias_step"]}
        )  # fmt: skip

    def at_looks(self, kind: str) -> dict[str, xr.DataArray]:
        """What was seen at the looks: `heldout` by stream, `saturation` by layer, `positions` by span, each [step]."""
        steps = self.values.get("position_step" if kind == "positions" else "look_step", [])
        return {
            name: xr.DataArray(values, dims="step", coords={"step": steps})
            for name, values in self.values.get(kind, {}).items()
        }

    def answers(self, kind: str) -> xr.Dataset:
        """Answers to held-out prompts of a kind, each [step]: counts, the `share` of right ones, and its bounds."""
        looks = self.values["answers"][kind]
        found = {name: ("step", [look[name] for look in looks]) for name in ("right", "exact", "of", "low", "high")}
        table = xr.Dataset(found, coords={"step": self.values["answer_step"]})
        return table.assign(share=table["right"] / table["of"])


@st.cache_resource(show_spinner=False)
def logs() -> dict[str, Log]:
    """All logs that come along by name; that of the embedded model first."""
    return read(FOLDER)


def read(folder: Path) -> dict[str, Log]:
    """The logs of a folder by name."""
    found = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: (not path.name.startswith("mini"), path.stem)):
        values = json.loads(path.read_text(encoding="utf-8"))
        found[values["name"]] = Log(values["name"], values["says"], values)
    return found
