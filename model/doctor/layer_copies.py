"""Finds layers whose matrices equal those of another layer byte by byte."""

import collections
from collections.abc import Iterator

from model.doctor.findings import ERROR, WARNING, Finding, shortened

NAME = "copied layers"

Digests = dict[tuple[str, int | None], dict[int, bytes]]  # (part, expert) -> layer -> checksum of the matrix


def check_layers(digests: Digests) -> Iterator[Finding]:
    """Yield a finding for each pair of layers with equal matrices; an error if all matrices of a layer are equal."""
    held: collections.Counter[int] = collections.Counter()
    equal: collections.Counter[tuple[int, int]] = collections.Counter()
    for by_layer in digests.values():
        first: dict[bytes, int] = {}
        for layer, digest in sorted(by_layer.items()):
            held[layer] += 1
            if digest in first:
                equal[first[digest], layer] += 1
            first.setdefault(digest, layer)
    findings: dict[str, list[Finding]] = {ERROR: [], WARNING: []}
    for (one, other), number in sorted(equal.items()):
        is_whole = number == held[other]
        what = f"L{other} is a copy of L{one}" if is_whole else f"L{other} has {number} matrices of L{one}"
        meaning = (
            "A conversion that wrote one layer under two numbers, or a shard that was copied over another. In a model "
            "that was deepened by repeating layers, layers that have not been trained apart yet."
        )
        severity = ERROR if is_whole else WARNING
        evidence = {"equal matrices": number, "of": held[other], "other layer": one}
        findings[severity].append(Finding(severity, NAME, what, meaning, evidence, other))
    for alike in findings.values():
        yield from shortened(alike, "layers with matrices of another layer")
