"""Layers with equal matrices are named: whole, in part, or one expert of them."""

from model.doctor.findings import ERROR, WARNING
from model.doctor.layer_copies import Digests, check_layers

PARTS: list[tuple[str, int | None]] = [("self_attn.o_proj", None), ("experts.up_proj", 0), ("experts.up_proj", 1)]


def digests(**equal: tuple[int, ...]) -> Digests:
    """Three layers whose matrices all differ, except that layer 2 has those of layer 1 at the given places."""
    made: Digests = {part: {layer: f"{part}{layer}".encode() for layer in range(3)} for part in PARTS}
    for place in equal.get("places", ()):
        made[PARTS[place]][2] = made[PARTS[place]][1]
    return made


def test_different_layers_raise_nothing() -> None:
    assert list(check_layers(digests())) == []


def test_a_whole_layer_is_an_error_and_a_part_a_warning() -> None:
    (whole,) = check_layers(digests(places=(0, 1, 2)))
    assert (whole.severity, whole.what, whole.place) == (ERROR, "L2 is a copy of L1", "L2")
    (part,) = check_layers(digests(places=(0, 2)))
    assert (part.severity, part.what, part.place) == (WARNING, "L2 has 2 matrices of L1", "L2")


def test_one_expert_is_named() -> None:
    (finding,) = check_layers(digests(places=(2,)))
    assert (finding.severity, finding.what, finding.place) == (WARNING, "L2E1 has 1 matrix of L1E1", "L2E1")
