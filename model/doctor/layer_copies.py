"""Finds pairs of layers with matrices that are equal byte by byte."""

from collections.abc import Iterator

from model.doctor.findings import ERROR, WARNING, Finding, Number, shortened

NAME = "copied layers"

Digests = dict[tuple[str, int | None], dict[int, bytes]]  # (part, expert) -> layer -> checksum of the matrix


def check_layers(digests: Digests) -> Iterator[Finding]:
    """Yield a finding per pair of layers with equal matrices; an error if all matrices of the later layer are equal."""
    held: dict[int, int] = {}
    equal: dict[tuple[int, int], list[int | None]] = {}  # -> the expert of each equal matrix, None for other parts
    for (_, expert), by_layer in digests.items():
        first: dict[bytes, int] = {}
        for layer, digest in sorted(by_layer.items()):
            held[layer] = held.get(layer, 0) + 1
            if digest in first:
                equal.setdefault((first[digest], layer), []).append(expert)
            first.setdefault(digest, layer)
    findings: dict[str, list[Finding]] = {ERROR: [], WARNING: []}
    for (one, other), experts in sorted(equal.items()):
        finding = _copy(one, other, experts, held[other])
        findings[finding.severity].append(finding)
    for alike in findings.values():
        yield from shortened(alike, "layers with matrices of another layer")


def _copy(one: int, other: int, experts: list[int | None], held: int) -> Finding:
    number, expert = len(experts), experts[0]
    evidence: dict[str, Number] = {"equal matrices": number, "of": held, "other layer": one}
    meaning = (
        "A conversion that wrote one layer under two numbers, or a shard that was copied over another. In a model "
        "that was deepened by repeating layers, layers that have not been trained apart yet."
    )
    if number == held:
        return Finding(ERROR, NAME, f"L{other} is a copy of L{one}", meaning, evidence, other)
    if expert is not None and set(experts) == {expert}:
        what = f"L{other}E{expert} has {number} {'matrix' if number == 1 else 'matrices'} of L{one}E{expert}"
        return Finding(WARNING, NAME, what, meaning, evidence, other, expert)
    what = f"L{other} has {number} {'matrix' if number == 1 else 'matrices'} of L{one}"
    return Finding(WARNING, NAME, what, meaning, evidence, other)
