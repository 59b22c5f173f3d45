"""Selection by rounded scores: a case worked out by hand."""

import numpy as np

from model.doctor.ranking import changed_share
from model.trace.router_rule import RouterRule

RULE = RouterRule(num_experts=2, top_k=1)


def test_a_large_bias_costs_affinities_their_digits() -> None:
    """In bfloat16 numbers near 60 are multiples of 0.25.

    Exactly, 60.3 + 0.1 is larger than 60 + 0.38. Rounded, 60.25 + 0.1 becomes 60.25, and 60 + 0.38 becomes 60.5.
    """
    affinity, bias = np.float32([[0.38, 0.1], [0.38, 0.01]]), np.float32([60.0, 60.3])
    assert changed_share(affinity, bias, RULE) == 0.5
    assert changed_share(affinity, bias - 60, RULE) == 0
