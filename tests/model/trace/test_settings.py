"""Settings that differ between two configurations are named; keys without an effect are not."""

import dataclasses
from typing import Any

import pytest

from model.trace.comparison import compare
from model.trace.comparison_report import differing, to_json, verdict
from model.trace.settings import differing_settings
from model.trace.trace import Trace
from tests.traces import random_trace


def stating(trace: Trace, **changes: Any) -> Trace:
    config = {key: value for key, value in {**trace.config, **changes}.items() if value is not None}
    return dataclasses.replace(trace, model={**trace.model, "config": config})


@pytest.mark.parametrize(
    ("key", "a", "b"),
    [
        ("routed_scaling_factor", 2.5, 1.0),
        ("norm_topk_prob", True, False),
        ("rope_theta", 10000, 50000.0),
        ("topk_group", 2, 3),
        ("rms_norm_eps", 1e-6, 1e-5),
        ("first_k_dense_replace", 1, 2),
    ],
)
def test_setting_that_differs_is_named_first_with_both_values(key: str, a: Any, b: Any) -> None:
    trace = random_trace()
    found = compare(stating(trace, **{key: a}), stating(trace, **{key: b}))
    assert verdict(found)[0].startswith(f"The configurations differ in {key} ({a} in A, {b} in B).")
    assert differing(found)[key] == (a, b)
    assert to_json(found)["settings"] == {key: [a, b]}


def test_router_settings_come_first() -> None:
    trace = random_trace()
    other = stating(trace, rms_norm_eps=1e-5, hidden_act="gelu", topk_group=3)
    one = stating(trace, rms_norm_eps=1e-6, hidden_act="silu")
    assert list(differing_settings(one, other)) == ["topk_group", "hidden_act", "rms_norm_eps"]


def test_rope_is_the_same_wherever_it_stands() -> None:
    trace = random_trace()
    new = stating(trace, rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0})
    old = stating(trace, rope_scaling={"type": "yarn", "factor": 4.0}, rope_theta=10000)
    assert differing_settings(new, old) == {}
    other = stating(trace, rope_scaling={"type": "yarn", "factor": 8.0}, rope_theta=10000)
    assert differing_settings(new, other) == {"rope factor": (4.0, 8.0)}


def test_bookkeeping_and_unstated_keys_are_no_difference() -> None:
    trace = random_trace()
    other = stating(trace, torch_dtype="bfloat16", transformers_version="5.0", norm_topk_prob=None)
    assert differing_settings(stating(trace, torch_dtype="float32"), other) == {}
    assert differing_settings(dataclasses.replace(trace, model={"name": "x"}), other) == {}
    assert differing_settings(trace, stating(trace, n_group=None)) == {"n_group": (4, 1)}
