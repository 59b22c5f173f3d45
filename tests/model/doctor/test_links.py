"""The first link that differs, and rounding told from a fault, on gaps written by hand."""

import numpy as np
import pytest

from model.doctor.links import (
    ATTENTION,
    EMBEDDING,
    EXACT,
    OUTPUT,
    ROUNDED,
    Link,
    chain_of,
    changed_tokens,
    first_difference,
    relative_gaps,
    tolerance_of,
)
from tests.traces import random_trace

KINDS = [(EMBEDDING, 0), (ATTENTION, 0), (OUTPUT, 0), (ATTENTION, 1), (OUTPUT, 1)]


def chain(*gaps: float) -> list[Link]:
    """Five links of ten tokens, each with one gap in all tokens."""
    return [Link(kind, layer, np.full(10, float(gap))) for (kind, layer), gap in zip(KINDS, gaps, strict=True)]


def first(links: list[Link]) -> int | None:
    trace = random_trace()
    return first_difference(trace, trace, links, EXACT)


def test_gaps_are_relative_and_infinite_for_nan() -> None:
    gaps = relative_gaps(np.array([2.0, 4.0, np.nan, 1.0]), np.array([2.5, 4.0, 1.0, np.inf]))
    assert gaps.tolist() == [0.25, 0.0, np.inf, np.inf]


@pytest.mark.parametrize(
    ("gaps", "place"),
    [
        ((0, 0, 0, 0, 0), None),
        ((0, 1e-6, 4e-6, 2e-5, 9e-4), None),  # another machine
        ((0.5, 0.5, 0.5, 0.5, 0.5), 0),
        ((0, 0, 0, 0.01, 0.02), 3),
        ((0, 0, 5e-4, 9e-4, 3e-3), 2),  # a small fault that grows
        ((0, 0, 0, 0, np.inf), 4),
    ],
)
def test_the_first_link_is_where_the_difference_rises(gaps: tuple[float, ...], place: int | None) -> None:
    assert first(chain(*gaps)) == place


@pytest.mark.parametrize(
    ("gaps", "in_fp8", "tolerance"),
    [
        ((1e-3, 2e-3, 5e-3, 9e-3, 1e-2), False, ROUNDED),  # weights in bfloat16
        ((0.1, 0.1, 0.1, 0.1, 0.1), False, EXACT),  # a fault of the embedding
        ((0, 5e-3, 8e-3, 9e-3, 1e-2), False, EXACT),  # a fault of attention
        ((0, 5e-3, 8e-3, 9e-3, 1e-2), True, ROUNDED),  # FP8, but for the embedding
        ((0, 0, 0, 5e-3, 8e-3), True, EXACT),  # a fault of a later layer
        ((0, 0, 0, 0, 0), True, EXACT),
    ],
)
def test_rounding_changes_all_tokens_a_little_from_the_start(
    gaps: tuple[float, ...], in_fp8: bool, tolerance: object
) -> None:
    assert tolerance_of(chain(*gaps), False, in_fp8) is tolerance
    assert tolerance_of(chain(*gaps), True, in_fp8) is ROUNDED


def test_few_changed_tokens_are_no_rounding() -> None:
    links = chain(1e-3, 1e-3, 1e-3, 1e-3, 1e-3)
    links[0].gaps_T[2:] = 0
    assert tolerance_of(links, False, False) is EXACT


def test_changed_tokens_rise_above_what_came_before() -> None:
    links = chain(0, 1e-6, 2e-6, 0, 0)
    links[3].gaps_T[[2, 5]] = (1e-5, 1e-4)
    assert np.flatnonzero(changed_tokens(links, 3, EXACT)).tolist() == [5]
    links[3].gaps_T[[2, 5]] = (1e-2, 4e-2)
    assert np.flatnonzero(changed_tokens(links, 3, ROUNDED)).tolist() == [5]


def test_a_trace_of_an_older_version_has_one_link_per_layer() -> None:
    trace = random_trace()  # without the norms of the embedding and after attention
    assert [(link.kind, link.layer) for link in chain_of(trace, trace)] == [
        (OUTPUT, layer) for layer in trace.data["layer"].values
    ]
