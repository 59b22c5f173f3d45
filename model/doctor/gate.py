"""Checks the router's rows, one per expert: zero rows, outlying norms, nearly parallel rows.

Thresholds: a norm is outlying if it differs from the median by a factor of 1.6 and by 8 robust deviations; the embedded
models reach a factor of 1.26, random rows of 48 values 1.3. Two rows are nearly parallel if their cosine is at least
0.98; the embedded models reach 0.77, because trained rows share a direction.
"""

from collections.abc import Iterator

import numpy as np

from model.doctor.findings import ERROR, WARNING, Finding, shortened
from model.doctor.robust import deviations, near_pairs, outlying

NAME = "gate rows"
RATIO, DEVIATION, FLOOR = 1.6, 8.0, 0.02
PARALLEL, SAME = 0.98, 0.99999


def check_gate(layer: int, rows: np.ndarray) -> Iterator[Finding]:
    """Yield the findings on the router of one layer.

    Args:
        layer: model layer number.
        rows: weight of the router, [expert, width] fp32, finite.
    """
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    yield from _dead(layer, norms)
    alive = np.flatnonzero(norms > 0)
    if len(alive) > 2:
        yield from _outlying(layer, norms, alive)
        yield from _parallel(layer, rows[alive], alive)


def _dead(layer: int, norms: np.ndarray) -> Iterator[Finding]:
    findings = []
    for expert in np.flatnonzero(norms == 0).tolist():
        what = f"L{layer}E{expert}: its router row is all 0"
        meaning = "The expert has the same logit for every token: a row that was dropped or never loaded."
        findings.append(Finding(ERROR, NAME, what, meaning, {"norm": 0.0}, layer, expert))
    yield from shortened(findings, f"router rows of L{layer} that are all 0")


def _outlying(layer: int, norms: np.ndarray, alive: np.ndarray) -> Iterator[Finding]:
    logs, median = np.log(norms[alive]), float(np.median(norms[alive]))
    far, apart, findings = outlying(logs, RATIO, DEVIATION, FLOOR), deviations(logs, FLOOR), []
    for index in np.flatnonzero(far).tolist():
        expert = int(alive[index])
        ratio = float(norms[expert] / median)
        what = f"L{layer}E{expert}: its router row is {ratio:.3g} times as long as the layer's median"
        meaning = (
            "Its affinity is nearly always extreme (a long row), or hardly depends on the token (a short one). A row "
            "that was scaled or read with the wrong units; in training, an expert that runs away."
        )
        evidence = {"norm": float(norms[expert]), "median": median, "robust deviations": float(apart[index])}
        findings.append(Finding(WARNING, NAME, what, meaning, evidence, layer, expert))
    yield from shortened(findings, f"router rows of L{layer} of outlying length")


def _parallel(layer: int, rows: np.ndarray, alive: np.ndarray) -> Iterator[Finding]:
    findings: dict[str, list[Finding]] = {ERROR: [], WARNING: []}
    for first, second, cosine in near_pairs(rows.astype(np.float64), PARALLEL):
        one, other = int(alive[first]), int(alive[second])
        is_same = np.array_equal(rows[first], rows[second]) or cosine >= SAME
        severity, how = (ERROR, "the same as") if is_same else (WARNING, "nearly parallel to")
        what = f"L{layer}E{other}: its router row is {how} that of E{one}"
        meaning = (
            "Both experts get the same affinities. Usually a copied row; in training, experts that were cloned and "
            "have not diverged yet."
        )
        findings[severity].append(
            Finding(severity, NAME, what, meaning, {"cosine": cosine, "other expert": one}, layer, other)
        )
    for pairs in findings.values():
        yield from shortened(pairs, f"pairs of parallel router rows in L{layer}")
