"""Checks each tensor for NaN, infinity and zeros, and compares its size with that of the same part in other layers.

Thresholds: a matrix is mostly zeros if more than half of its values are 0. A tensor is outlying if its size (root mean
square) differs from the median of the layers by a factor of 8 and by 8 robust deviations. Models with fewer than 5
layers get no check of sizes.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from model.checkpoint.names import is_quantisation
from model.doctor.findings import ERROR, WARNING, Finding
from model.doctor.robust import deviations, outlying
from model.doctor.tensors import Scanned

NAME, SIZES = "values", "sizes"
MOSTLY_ZEROS = 0.5
RATIO, DEVIATION, FLOOR, FEWEST_LAYERS = 8.0, 8.0, 0.1, 5


def check_values(tensor: Scanned, vectors_may_be_zero: bool = False) -> Iterator[Finding]:
    """Yield the findings on one tensor, except zeros in a routed expert, which `experts` reports.

    Args:
        tensor: the tensor.
        vectors_may_be_zero: whether a vector of zeros is usual: in some families a norm multiplies by 1 plus its
            weight.
    """
    place, name = tensor.place, tensor.stored.name
    if tensor.num_nan or tensor.num_infinite:
        kinds = [(tensor.num_nan, "NaN"), (tensor.num_infinite, "infinite")]
        counts = " and ".join(f"{number:,} {kind}" for number, kind in kinds if number)
        at = ",".join(map(str, tensor.first_broken))
        what = f"{described(tensor)}: {counts} of {tensor.size:,} values, the first at [{at}]"
        meaning = (
            "Every token that passes through it becomes NaN. A file damaged in transfer, or a training step that "
            "diverged and was saved."
        )
        evidence = {"NaN": tensor.num_nan, "infinite": tensor.num_infinite, "of": tensor.size}
        yield Finding(ERROR, NAME, what, meaning, evidence, place.layer, place.expert, name)
    if tensor.bad_scales:
        what = f"{described(tensor)}: {tensor.bad_scales:,} of its block scales are NaN, infinite, zero or negative"
        meaning = "The weights of those blocks are unknown."
        evidence = {"bad scales": tensor.bad_scales}
        yield Finding(ERROR, NAME, what, meaning, evidence, place.layer, place.expert, name)
    if place.expert is None and tensor.values is None and not (vectors_may_be_zero and len(tensor.stored.shape) < 2):
        yield from _zeros(tensor)


def _zeros(tensor: Scanned) -> Iterator[Finding]:
    """Yield a finding if most values of a tensor are 0; biases and tensors of a quantisation may be 0."""
    share, place = tensor.num_zero / max(1, tensor.size), tensor.place
    if share <= MOSTLY_ZEROS or place.part.endswith(".bias") or is_quantisation(tensor.stored.name):
        return
    evidence = {"share of zeros": share, "of": tensor.size}
    if share == 1:
        what, severity = f"{described(tensor)} is zero", ERROR
        meaning = "A shard that was not written, or a part that was left at its initial value."
    else:
        what, severity = f"{described(tensor)}: {share:.0%} of its values are exactly 0", WARNING
        meaning = "Pruned, damaged, or rounded away by scales that are too large."
    yield Finding(severity, NAME, what, meaning, evidence, place.layer, place.expert, tensor.stored.name)


def compare_sizes(sizes: Mapping[str, Mapping[int, float]]) -> Iterator[Finding]:
    """Yield the findings on tensors whose size differs from that of the same part in other layers.

    Args:
        sizes: name of the part within a layer -> model layer number -> root mean square of the tensor.
    """
    for part, by_layer in sizes.items():
        known = {layer: rms for layer, rms in by_layer.items() if np.isfinite(rms) and rms > 0}
        if len(known) < FEWEST_LAYERS:
            continue
        logs, median = np.log(list(known.values())), float(np.median(list(known.values())))
        far, apart = outlying(logs, RATIO, DEVIATION, FLOOR), deviations(logs, FLOOR)
        for (layer, rms), is_far, deviation in zip(known.items(), far, apart, strict=True):
            if is_far:
                name = part.removesuffix(".weight")
                what = f"L{layer}: {name} is {rms / median:.3g} times as large as in the other layers"
                meaning = (
                    "Scales of another tensor or in the wrong units, or a tensor of another model or another step."
                )
                evidence = {"rms": rms, "median of layers": median, "robust deviations": float(deviation)}
                yield Finding(WARNING, SIZES, what, meaning, evidence, layer)


def described(tensor: Scanned) -> str:
    """Return the name of a tensor in findings."""
    place = tensor.place
    part = place.part.removesuffix(".weight")
    if place.layer is None:
        return part
    return f"L{place.layer} {part}" if place.expert is None else f"L{place.layer}E{place.expert} {part}"


def typical_size(tensors: Iterable[Scanned]) -> float:
    """Return the median of the tensors' root mean squares; NaN if none of them is finite."""
    sizes = [tensor.typical for tensor in tensors if np.isfinite(tensor.typical)]
    return float(np.median(sizes)) if sizes else float("nan")
