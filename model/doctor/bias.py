"""Checks the router's selection bias: it must be present, no larger than an affinity, and kept in fp32.

The bias affects the selection only: it is added to affinities between 0 and 1 (sigmoid). Training changes it in small
steps of fixed size (DeepSeek-V3 report, section 2.1.2). Only differences between the experts' biases affect the
selection, so the checks separate a common offset from the differences.

Thresholds: a bias 1 away from the median outweighs every affinity. Biases count as rounded if all of them are bfloat16
numbers, unless they are small multiples of one power of two: training in steps of that size gives such biases too. A
layer is reported as using other units than the rest on two conditions. The spread of its biases is at least 10 times
the median spread of the layers, or at most a tenth of it. The logarithm of its spread lies at least 8 robust standard
deviations from the median.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from model.doctor.findings import ERROR, NOTE, WARNING, Finding
from model.doctor.robust import outlying

NAME = "bias"
LARGEST_AFFINITY = 1.0
COARSE = 2.0**-5  # smallest step of bfloat16 that gets a warning: of biases from 4 on
DRIFT = 1.0  # smallest common offset that gets a note
NEVER_MOVED = 0.5  # share of experts at exactly 0
OTHER_UNITS, DEVIATION, FEWEST_LAYERS = 10.0, 8.0, 4
_LARGEST_STEP = 2.0**-7
_FEWEST_STEPS = 128  # smallest spread of a layer's biases, in fp32 steps

_LOST = (
    "A conversion that dropped the bias, or filled it with its initial value; experts are then selected by affinity "
    "alone."
)
_ROUNDED = (
    "The bias went through a bfloat16 copy of the model. Near ties are decided differently than in training, and "
    "experts whose biases became equal are no longer told apart; keep it in fp32."
)
_ABSURD = (
    "No affinity outweighs it: every token that keeps the expert's group chooses it, or none does. Usually other units "
    "(a logit, a count), a damaged value, or a run whose balancing ran away."
)


def check_bias(layer: int, bias: np.ndarray, is_bounded: bool = True) -> Iterator[Finding]:
    """Yield the findings on the biases of one layer.

    Args:
        layer: model layer number.
        bias: selection bias of each expert, [expert] fp32, finite.
        is_bounded: whether affinities are known to be at most 1.
    """
    numbers = _numbers(bias)
    if np.ptp(bias) == 0:
        yield _never_updated(layer, bias, numbers)
        return
    yield from _absurd(layer, bias, numbers) if is_bounded else _coarse(layer, bias, numbers)
    yield from _unresolved(layer, bias, numbers)
    if (share := float((bias == 0).mean())) > NEVER_MOVED:
        what = f"L{layer}: {share:.0%} of the biases are exactly 0, the others are not"
        yield Finding(WARNING, NAME, what, _LOST, numbers | {"share at 0": share}, layer)


def compare_layers(biases: Mapping[int, np.ndarray], dtypes: Mapping[int, str]) -> Iterator[Finding]:
    """Yield the findings on all layers together: a drifted offset, a narrow dtype, other units in one layer.

    Args:
        biases: model layer number -> selection bias of each expert, [expert], finite.
        dtypes: model layer number -> dtype of the stored bias, as safetensors names it.
    """
    yield from _drift(biases)
    yield from _narrow(biases, dtypes)
    moved = {layer: bias for layer, bias in biases.items() if np.ptp(bias) > 0}
    if len(moved) < FEWEST_LAYERS:
        return
    spreads = np.array([_spread(bias) for bias in moved.values()])
    for layer, spread, is_far in zip(
        moved, spreads, outlying(np.log(spreads), OTHER_UNITS, DEVIATION, 0.2), strict=True
    ):
        if is_far:
            usual = float(np.median(spreads))
            what = f"L{layer}: its biases spread {spread / usual:.3g} times as far as those of the other layers"
            meaning = "A bias in other units than the other layers', or of another model."
            evidence = {"spread": float(spread), "median of layers": usual}
            yield Finding(WARNING, NAME, what, meaning, evidence, layer)


def _drift(biases: Mapping[int, np.ndarray]) -> Iterator[Finding]:
    """Yield one note on all layers whose median bias is more than `DRIFT` from 0."""
    offsets = {layer: float(np.median(bias)) for layer, bias in biases.items() if np.ptp(bias) > 0}
    far = {layer: offset for layer, offset in offsets.items() if abs(offset) > DRIFT}
    if far:
        layer = max(far, key=lambda layer: abs(far[layer]))
        step = _step(biases[layer])
        what = f"in {len(far)} of {len(biases)} layers all biases share an offset, {far[layer]:.3g} in L{layer}"
        meaning = (
            "Unless training subtracts their mean, all biases drift if more experts are below the mean load than "
            f"above it. In fp32 the offset changes no selection; in bfloat16, with steps of {step:.2g} at that size, "
            "it would."
        )
        evidence = {"largest offset": far[layer], "smallest offset": min(far.values(), key=abs), "bfloat16 step": step}
        yield Finding(NOTE, NAME, what, meaning, evidence | {"spread": float(biases[layer].std())}, layer)


def _narrow(biases: Mapping[int, np.ndarray], dtypes: Mapping[int, str]) -> Iterator[Finding]:
    """Yield one warning per kind: biases stored in bfloat16, in float16, or in fp32 after rounding to bfloat16."""
    kinds: dict[str, list[int]] = {}
    for layer, bias in biases.items():
        if np.ptp(bias) == 0:
            continue
        if dtypes[layer] in ("BF16", "F16"):
            kind = {"BF16": "stored in bfloat16", "F16": "stored in float16"}[dtypes[layer]]
            kinds.setdefault(kind, []).append(layer)
        elif is_rounded(bias):
            kinds.setdefault("made of bfloat16 numbers", []).append(layer)
    for kind, layers in kinds.items():
        layer = max(layers, key=lambda layer: _step(biases[layer]))
        bias = biases[layer]
        first = (
            f"L{layer}: the bias is" if len(layers) == 1 else f"in {len(layers)} of {len(biases)} layers the bias is"
        )
        where = "" if len(layers) == 1 else f" (L{layer})"
        what = f"{first} {kind}, in steps of {_step(bias):.2g} at its largest values{where}"
        yield Finding(WARNING, NAME, what, _ROUNDED, _numbers(bias) | {"layers": len(layers)}, layer)


def is_rounded(bias: np.ndarray) -> bool:
    """Whether biases that are stored in fp32 were once rounded to bfloat16.

    >>> is_rounded(np.float32([0.1, 0.2, 0.3])), is_rounded(np.float32([6.875, 7.0]))
    (False, True)
    >>> is_rounded(np.float32([3, -1, 0, 12]) / 1024)  # steps of 2^-10
    False
    """
    if (bias.astype(np.float32).view(np.uint32) & 0xFFFF).any():
        return False
    nonzero = np.abs(bias[bias != 0]).astype(np.float64)
    steps = np.ldexp(1.0, np.frexp(nonzero)[1] - 8)  # of bfloat16, at each value
    finest = _common_step(nonzero)
    one_binade = steps.min() == steps.max() and np.sign(bias).min() == np.sign(bias).max()
    return bool(one_binade or finest > _LARGEST_STEP or nonzero.max() / finest > 256)


def _spread(bias: np.ndarray) -> float:
    """Return the median absolute deviation of the biases; if it is 0, their standard deviation."""
    return float(np.median(np.abs(bias - np.median(bias)))) or float(bias.std())


def _common_step(values: np.ndarray) -> float:
    """Return the largest power of two that divides all values."""
    mantissa, exponent = np.frexp(values)
    whole = (mantissa * 2**24).astype(np.int64)
    return float(np.ldexp((whole & -whole).astype(np.float64), exponent - 24).min())


def _step(bias: np.ndarray) -> float:
    """Return the distance between neighbouring bfloat16 numbers at the size of the largest bias."""
    return float(np.ldexp(1.0, int(np.frexp(np.abs(bias).max())[1]) - 8))


def _numbers(bias: np.ndarray) -> dict[str, int | float | str]:
    return {
        "lowest": float(bias.min()),
        "highest": float(bias.max()),
        "mean": float(bias.mean()),
        "standard deviation": float(bias.std()),
        "bfloat16 step": _step(bias) if bias.any() else 0.0,
        "different values": len(np.unique(bias)),
    }


def _never_updated(layer: int, bias: np.ndarray, numbers: dict[str, int | float | str]) -> Finding:
    what = f"L{layer}: every bias is {bias[0]:.3g}"
    meaning = f"{_LOST} Or the router was never balanced by it."
    return Finding(WARNING, NAME, what, meaning, numbers, layer)


def _absurd(layer: int, bias: np.ndarray, numbers: dict[str, int | float | str]) -> Iterator[Finding]:
    apart = bias.astype(np.float64) - np.median(bias)
    far = np.flatnonzero(np.abs(apart) > LARGEST_AFFINITY)
    if len(far):
        expert = int(np.abs(apart).argmax())
        others = f" and {len(far) - 1} more" if len(far) > 1 else ""
        what = f"L{layer}E{expert}{others}: a bias {apart[expert]:+.3g} from the layer's median"
        yield Finding(ERROR, NAME, what, _ABSURD, numbers | {"experts beyond 1": len(far)}, layer, expert)


def _coarse(layer: int, bias: np.ndarray, numbers: dict[str, int | float | str]) -> Iterator[Finding]:
    """Yield a warning if bfloat16 holds the sum of an affinity and the largest bias in coarse steps only."""
    if (step := _step(bias)) < COARSE:
        return
    expert = int(np.abs(bias).argmax())
    what = f"L{layer}E{expert}: a bias of {bias[expert]:+.3g}; at that size bfloat16 has steps of {step:.2g}"
    meaning = (
        "An engine that adds affinity and bias in bfloat16 ranks experts by rounded scores: affinities that differ by "
        "less than a step become equal. Keep router and bias in fp32. If affinities are at most 1, as with sigmoid and "
        "softmax, a bias of this size decides alone."
    )
    yield Finding(WARNING, NAME, what, meaning, numbers, layer, expert)


def _unresolved(layer: int, bias: np.ndarray, numbers: dict[str, int | float | str]) -> Iterator[Finding]:
    """Yield an error if fp32 no longer holds the differences between the biases."""
    spread, resolution = float(np.std(bias.astype(np.float64))), float(np.spacing(np.abs(bias).max()))
    if spread < _FEWEST_STEPS * resolution:
        what = f"L{layer}: biases near {np.median(bias):.3g} differ by {spread:.2g}; steps of fp32 are {resolution:.2g}"
        meaning = "The shared offset has grown until fp32 cannot hold the differences that balance the experts."
        yield Finding(ERROR, NAME, what, meaning, numbers | {"fp32 step": resolution}, layer)
