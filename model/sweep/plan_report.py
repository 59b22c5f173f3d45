"""The results of a plan's check: harm in bits per byte, routing damage, and the random plans beside it.

Shape suffix: D documents.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.trace.documents import paired_difference
from model.trace.rollout import FIGURES, Ratio, interval_of

AS_TRAINED, PLANNED = "as trained", "plan"  # names of variants; all others are random plans
_Sums = Mapping[str, Sequence[float]]


def report(variants: Mapping[str, _Sums], layers: Sequence[int], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results as JSON values; an unknown interval is null.

    Args:
        variants: sums per document of the model "as trained", of the "plan" and of random plans, by name.
        layers: numbers of the MoE layers.
        about: entries on what was run.

    Returns:
        `about`, and: `documents` and `tokens`; `as_trained`, bits per byte; `plan`, and a row of `random` per random
        plan: `bits_per_byte`, and `harm`, the bits per byte above those as trained, with its interval `low` to `high`
        over documents; `beaten`, the number of random plans with more harm; `closest`, the random plan with the least
        harm, and `average`, the mean of all, whose `harm` here is above that of the plan; `damage`, a row per figure of
        routing damage, with its range over the random plans; `split_share_by_layer` of the plan.
    """
    trained, planned = variants[AS_TRAINED], variants[PLANNED]
    controls = {name: sums for name, sums in variants.items() if name not in (AS_TRAINED, PLANNED)}
    rows = [{"plan": name, **_harm(sums, trained)} for name, sums in controls.items()]
    own = _harm(planned, trained)
    best = min(rows, key=lambda row: row["harm"], default=None)
    return {
        **about,
        "documents": len(trained["bytes"]),
        "tokens": int(sum(trained["tokens"])),
        "as_trained": sum(trained["bits"]) / sum(trained["bytes"]),
        "plan": own,
        "random": rows,
        "beaten": sum(row["harm"] > own["harm"] for row in rows),
        "closest": None if best is None else {"plan": best["plan"], **_harm(controls[best["plan"]], planned)},
        "average": _harm(_averaged(list(controls.values())), planned) if controls else None,
        "damage": [_figure(name, planned, list(controls.values())) for name in FIGURES],
        "split_share_by_layer": {
            str(layer): sum(planned[f"layer {index}"]) / sum(planned["tokens"]) for index, layer in enumerate(layers)
        },
    }


def _harm(sums: _Sums, baseline: _Sums) -> dict[str, Any]:
    """Return the bits per byte of a variant, and how many more than those of a baseline, with the interval."""
    parts = (np.array(one["bits"]) for one in (sums, baseline))
    bytes_D = np.array(sums["bytes"])
    first, second = parts
    harm, low, high = paired_difference(first, bytes_D, second, bytes_D)
    return {"bits_per_byte": float(first.sum() / bytes_D.sum()), "harm": harm, "low": _known(low), "high": _known(high)}


def _averaged(controls: Sequence[_Sums]) -> _Sums:
    """Return the mean bits of the random plans in each document, with its bytes."""
    return {"bits": np.mean([sums["bits"] for sums in controls], axis=0), "bytes": controls[0]["bytes"]}


def _figure(name: str, planned: _Sums, controls: Sequence[_Sums]) -> dict[str, Any]:
    """Return a figure of the plan's routing damage with its interval, and its range over the random plans."""
    ratio = _ratio(name, planned)
    low, high = interval_of(name, ratio)
    others = [_ratio(name, sums).value for sums in controls]
    row = {"figure": name, "value": ratio.value, "low": _known(low), "high": _known(high)}
    return row | {"random_low": min(others, default=None), "random_high": max(others, default=None)}


def _ratio(name: str, sums: _Sums) -> Ratio:
    return Ratio(np.array(sums[f"{name} /"]), np.array(sums[f"{name} n"]))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
