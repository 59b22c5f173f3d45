"""Differences before a choice of experts, against cases worked out by hand."""

import dataclasses

import numpy as np
import pytest

from model.trace.comparison import CHANGE, compare
from model.trace.comparison_report import verdict
from model.trace.earlier import differs_before
from model.trace.trace import Trace
from tests.model.trace.test_comparison import OTHER, WIDE, gate


def pair(**arrays: np.ndarray) -> tuple[Trace, Trace]:
    """Three tokens in layers 1 and 2; the last token splits in layer 2. `arrays` replace those of the second trace."""
    a = gate([[WIDE, WIDE]] * 3)
    b = gate([[WIDE, WIDE]] * 2 + [[WIDE, OTHER]])
    quiet = {"logprob": a.data["logprob"].values, "residual_norm": a.data["residual_norm"].values} | arrays
    data = b.data.assign({name: (b.data[name].dims, values.astype("f4")) for name, values in quiet.items()})
    return a, dataclasses.replace(b, data=data)


def test_nothing_differs_before() -> None:
    found = compare(*pair())
    assert found.choices["verdict"].values[2, 1] == CHANGE
    assert not differs_before(found).any()
    assert "1 by a real change, with a wide margin and nothing different before it" in verdict(found)[0]


def test_weights_of_another_scale_differ_before_the_next_layer() -> None:
    weights = gate([[WIDE, WIDE]] * 2 + [[WIDE, OTHER]]).data["gate_weight"].values
    found = compare(*pair(gate_weight=weights * 2))
    assert differs_before(found).tolist() == [[False, True]] * 3
    assert "all after weights, residual norms or log-probabilities had differed" in verdict(found)[0]


@pytest.mark.parametrize(("layer", "expected"), [(0, [True, True]), (1, [False, True]), (2, [False, False])])
def test_residual_norms_differ_before_the_layers_above(layer: int, expected: list[bool]) -> None:
    norms = pair()[0].data["residual_norm"].values.copy()
    norms[1, layer] *= 1.5
    assert differs_before(compare(*pair(residual_norm=norms))).tolist() == [[False, False], expected, expected]


def test_log_probabilities_differ_before_the_tokens_from_there_on() -> None:
    logprob = pair()[0].data["logprob"].values.copy()
    logprob[2] -= 3
    assert differs_before(compare(*pair(logprob=logprob))).tolist() == [[False, False], [False, False], [True, True]]


def test_rounding_is_no_difference() -> None:
    norms = pair()[0].data["residual_norm"].values * (1 + 1e-5)
    assert not differs_before(compare(*pair(residual_norm=norms))).any()
