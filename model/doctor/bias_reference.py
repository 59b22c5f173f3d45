"""Compares the router's selection biases with those of a healthy run; equal biases differ by less than 1e-6."""

from collections.abc import Iterator

import numpy as np

from model.doctor.chain import NAME
from model.doctor.findings import ERROR, NOTE, WARNING, Finding, Number
from model.trace.trace import Trace

_SAME, _FITS = 1e-6, 1e-5
_OTHER_LAYER = (
    "Layers had other numbers when the biases were written; each bias balances the load of another layer's experts."
)


def compare_biases(reference: Trace, ours: Trace) -> Iterator[Finding]:
    """Yield a finding per layer whose bias differs from the reference's; two layers with swapped biases share one."""
    was, now = (trace.data["expert_bias"].values.astype(np.float64) for trace in (reference, ours))
    layers = ours.data["moe_layer"].values.tolist()
    carried = {index: other for index in range(len(layers)) if (other := _layer_of(was, now, index)) != index}
    for index, layer in enumerate(layers):
        apart = now[index] - was[index]
        if np.abs(apart).max() < _SAME:
            continue
        evidence: dict[str, Number] = {
            "largest difference": float(np.abs(apart).max()),
            "experts": int((np.abs(apart) > _SAME).sum()),
        }
        if index not in carried:
            yield _difference(layer, was[index], now[index], evidence)
            continue
        other = carried[index]
        what = f"L{layer} carries the bias of L{layers[other]}"
        if carried.get(other) == index:
            what = f"L{layer} and L{layers[other]} carry each other's bias: the layers, or their biases, are swapped"
        if carried.get(other) != index or index < other:
            yield Finding(ERROR, NAME, what, _OTHER_LAYER, evidence | {"bias of layer": layers[other]}, layer)


def _layer_of(was: np.ndarray, now: np.ndarray, index: int) -> int:
    """Return the index of the reference's layer whose bias equals, up to a common offset, that of our layer `index`.

    Return `index` if the reference's layer with this index has an equal bias, or if no layer has one.
    """
    if np.abs(now[index] - was[index]).max() < _SAME or np.ptp(now[index] - was[index]) < _SAME:
        return index
    relative = now[index] - now[index].mean()
    fits = [float(np.abs(relative - (other - other.mean())).max()) for other in was]
    best = int(np.argmin(fits))
    return best if fits[best] < _FITS and np.ptp(now[index]) > 0 else index


def _difference(layer: int, was: np.ndarray, now: np.ndarray, evidence: dict[str, Number]) -> Finding:
    """Return the finding on a bias that equals neither the reference's bias nor the bias of another layer."""
    apart = now - was
    if np.ptp(apart) < _SAME:
        what = f"L{layer}: every bias lies {apart.mean():+.3g} from the reference's"
        return Finding(NOTE, NAME, what, "An offset that all share moves no selection.", evidence, layer)
    if np.ptp(now) == 0:
        what = f"L{layer}: every bias is {now[0]:.3g}, the reference's differ"
        meaning = "The bias was dropped, or filled with its initial value; experts are selected by affinity alone."
        return Finding(ERROR, NAME, what, meaning, evidence, layer)
    if np.allclose(np.sort(now), np.sort(was), atol=_SAME):
        what = (
            f"L{layer}: the biases are the reference's in another order; {evidence['experts']} experts have the bias "
            "of another expert"
        )
        meaning = "Experts were renumbered; correct only if router rows and weights were renumbered, too."
        return Finding(WARNING, NAME, what, meaning, evidence, layer)
    if np.array_equal(in_bfloat16(was), now):
        what = f"L{layer}: the biases are the reference's, rounded to bfloat16"
        return Finding(
            WARNING, NAME, what, "Near ties are decided differently; keep the bias in fp32.", evidence, layer
        )
    expert, number = int(np.abs(apart).argmax()), evidence["experts"]
    differ = "1 bias differs" if number == 1 else f"{number} biases differ"
    what = f"L{layer}: {differ} from the reference's, that of E{expert} by {apart[expert]:+.3g}"
    if np.allclose(now, -was, atol=_SAME):
        what = f"L{layer}: every bias has the other sign than in the reference"
    meaning = "The bias was changed or rounded, or belongs to another training step."
    return Finding(ERROR, NAME, what, meaning, evidence, layer, expert)


def in_bfloat16(values: np.ndarray) -> np.ndarray:
    """Return values rounded to bfloat16, to nearest and in a tie to even."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32).astype(np.float64)
