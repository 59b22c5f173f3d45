"""What differs between two layers' biases is named, with values written by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from model.doctor.bias_reference import compare_biases, in_bfloat16
from model.doctor.findings import ERROR, NOTE, WARNING, Finding
from tests.traces import random_trace

REFERENCE = random_trace()
WAS = REFERENCE.data["expert_bias"].values


def found(biases: np.ndarray) -> list[Finding]:
    data = REFERENCE.data.assign(expert_bias=(REFERENCE.data["expert_bias"].dims, biases.astype(np.float32)))
    return list(compare_biases(REFERENCE, dataclasses.replace(REFERENCE, data=data)))


def changed(row: np.ndarray) -> np.ndarray:
    return np.concatenate([row[None], WAS[1:]])


def test_equal_biases_raise_nothing() -> None:
    assert found(WAS) == []


@pytest.mark.parametrize(
    ("row", "severity", "words"),
    [
        (WAS[0] + 0.5, NOTE, "every bias lies +0.5 from the reference's"),
        (np.zeros_like(WAS[0]), ERROR, "every bias is 0, the reference's differ"),
        (np.roll(WAS[0], 1), WARNING, "in another order"),
        (in_bfloat16(WAS[0]), WARNING, "rounded to bfloat16"),
        (-WAS[0], ERROR, "the other sign"),
        (
            WAS[0] + 0.25 * (np.arange(WAS.shape[1]) == 3),
            ERROR,
            "1 bias differs from the reference's, that of E3 by +0.25",
        ),
        (WAS[1], ERROR, "carries the bias of"),
    ],
)
def test_one_layer_is_named(row: np.ndarray, severity: str, words: str) -> None:
    (finding,) = found(changed(row))
    assert (finding.severity, finding.layer, words in finding.what) == (severity, 1, True)


def test_layers_that_carry_each_others_bias_are_one_finding() -> None:
    (finding,) = found(np.concatenate([WAS[[1, 0]], WAS[2:]]))
    assert (finding.severity, finding.layer) == (ERROR, 1)
    assert "L1 and L2 carry each other's bias" in finding.what


def test_rounding_to_bfloat16_is_that_of_torch() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert np.array_equal(in_bfloat16(values), torch.from_numpy(values).bfloat16().float().numpy())
