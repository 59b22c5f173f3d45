"""Compares the routed experts of a layer: copies, experts of zeros, outlying norms.

Thresholds: two experts are near copies if the cosine of samples of 4,096 values is at least 0.98 (its error is about
0.016); the embedded models reach 0.12. A norm is outlying if it differs from the median by a factor of 1.8 and by 8
robust deviations; the embedded models reach a factor of 1.11. An expert is dead if its root mean square is at most a
millionth of the median.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from model.doctor.findings import ERROR, WARNING, Finding, shortened
from model.doctor.robust import deviations, near_pairs, outlying
from model.doctor.tensors import Scanned

NAME = "experts"
NEAR, RATIO, DEVIATION, FLOOR, DEAD = 0.98, 1.8, 8.0, 0.05, 1e-6

Projections = Mapping[str, Mapping[int, Scanned]]  # projection, for example `up_proj.weight` -> expert -> its tensor


def check_experts(layer: int, projections: Projections) -> Iterator[Finding]:
    """Yield the findings on the experts of one layer."""
    yield from _dead(layer, projections)
    yield from _copies(layer, projections)
    for projection, tensors in projections.items():
        yield from _outlying(layer, projection.removesuffix(".weight"), tensors)


def _dead(layer: int, projections: Projections) -> Iterator[Finding]:
    zero: dict[int, list[str]] = {}
    for projection, tensors in projections.items():
        sizes = [tensor.rms for tensor in tensors.values() if not np.isnan(tensor.rms)]
        usual = float(np.median(sizes)) if sizes else 0.0
        for expert, tensor in tensors.items():
            if tensor.rms <= DEAD * usual:
                zero.setdefault(expert, []).append(projection.removesuffix(".weight"))
    findings = []
    for expert, names in zero.items():
        whole = "is zero" if len(names) == len(projections) else f"has nothing but zeros in {', '.join(names)}"
        meaning = (
            "The expert adds nothing to its tokens, and takes the place of one that would. Usually a shard that was "
            "not written, or a part that was left at its initial value."
        )
        evidence = {"zero projections": len(names), "of": len(projections)}
        findings.append(Finding(ERROR, NAME, f"L{layer}E{expert} {whole}", meaning, evidence, layer, expert))
    yield from shortened(findings, f"experts of L{layer} with zeros only")


def _copies(layer: int, projections: Projections) -> Iterator[Finding]:
    """Yield the findings on pairs of experts with projections that are equal byte by byte, or nearly so in a sample."""
    equal = _equal_pairs(projections)
    near: dict[tuple[int, int], list[float]] = {}
    for tensors in projections.values():
        for pair, cosine in _near_pairs(tensors):
            near.setdefault(pair, []).append(cosine)
    meaning = (
        "Two router rows lead to the same expert. Usually a conversion that wrote a tensor under two names; in an "
        "upcycled model, experts that have not been trained apart yet."
    )
    findings: dict[str, list[Finding]] = {ERROR: [], WARNING: []}
    for (one, other), names in equal.items():
        is_whole = len(names) == len(projections)
        what = f"L{layer}E{other} is a copy of E{one}" + ("" if is_whole else f" in {', '.join(names)}")
        evidence = {"equal projections": len(names), "of": len(projections), "other expert": one}
        severity = ERROR if is_whole else WARNING
        findings[severity].append(Finding(severity, NAME, what, meaning, evidence, layer, other))
    for (one, other), cosines in near.items():
        what = f"L{layer}E{other} is nearly a copy of E{one} in {len(cosines)} of {len(projections)} projections"
        evidence = {"lowest cosine": min(cosines), "other expert": one}
        findings[WARNING].append(Finding(WARNING, NAME, what, meaning, evidence, layer, other))
    for pairs in findings.values():
        yield from shortened(pairs, f"pairs of copied experts in L{layer}")


def _equal_pairs(projections: Projections) -> dict[tuple[int, int], list[str]]:
    """Return pairs of experts -> their equal projections.

    An expert that equals earlier ones in all projections is paired with the first of them. Any other expert is paired,
    projection by projection, with the first expert that has the same tensor there.
    """
    whole: dict[int, list[bytes]] = {}
    for tensors in projections.values():
        for expert, tensor in tensors.items():
            whole.setdefault(expert, []).append(tensor.digest)
    first_whole: dict[tuple[bytes, ...], int] = {}
    same_as = {expert: first_whole.setdefault(tuple(digests), expert) for expert, digests in whole.items()}
    equal: dict[tuple[int, int], list[str]] = {}
    for projection, tensors in projections.items():
        first: dict[bytes, int] = {}
        for expert, tensor in tensors.items():
            if not tensor.rms > 0:
                continue
            one = first.setdefault(tensor.digest, expert)
            if same_as[expert] != expert:
                one = same_as[expert]
            if one != expert:
                equal.setdefault((one, expert), []).append(projection.removesuffix(".weight"))
    return equal


def _near_pairs(tensors: Mapping[int, Scanned]) -> Iterator[tuple[tuple[int, int], float]]:
    """Yield pairs of experts with nearly parallel samples, and the cosine; of equal tensors only the first counts."""
    first: dict[bytes, int] = {}
    for expert, tensor in tensors.items():
        if tensor.rms > 0 and tensor.sample.any():
            first.setdefault(tensor.digest, expert)
    experts = list(first.values())
    shapes = {tensors[expert].sample.shape for expert in experts}
    if len(experts) < 2 or len(shapes) != 1:
        return
    samples = np.stack([tensors[expert].sample for expert in experts])
    samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    samples /= np.maximum(np.abs(samples).max(1, keepdims=True), 1e-30)  # so that no square overflows
    alive = np.flatnonzero(samples.any(1))
    for one, other, cosine in near_pairs(samples[alive], NEAR):
        yield (experts[alive[one]], experts[alive[other]]), cosine


def _outlying(layer: int, projection: str, tensors: Mapping[int, Scanned]) -> Iterator[Finding]:
    experts = [expert for expert, tensor in tensors.items() if tensor.typical > 0]
    if len(experts) < 3:
        return
    sizes = np.array([tensors[expert].typical for expert in experts])
    with np.errstate(over="ignore"):
        logs, median = np.log(sizes), float(np.median(sizes))
    far, apart, findings = outlying(logs, RATIO, DEVIATION, FLOOR), deviations(logs, FLOOR), []
    for index in np.flatnonzero(far & (sizes > DEAD * median)).tolist():
        expert, size = experts[index], float(sizes[index])
        what = f"L{layer}E{expert}: its {projection} is {size / median:.3g} times as large as the layer's median"
        meaning = (
            "The expert's output is too large or too small. Usually scales of another tensor or in the wrong units "
            "(multiplied where they divide); in training, an expert that diverges."
        )
        evidence = {"rms": size, "median": median, "robust deviations": float(apart[index])}
        name = tensors[expert].stored.name
        findings.append(Finding(WARNING, NAME, what, meaning, evidence, layer, expert, name))
    yield from shortened(findings, f"{projection} of outlying size in L{layer}")
