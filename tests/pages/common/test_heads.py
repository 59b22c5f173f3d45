"""Which heads a trace can show, without a model at hand."""

import dataclasses

import numpy as np
import pytest

from model.run.request import RequestError
from model.trace.trace import Trace
from pages.common import heads, models
from pages.common.runs import Run
from tests.traces import random_trace


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "available", dict)


def recording(**selected: list[int]) -> Trace:
    trace = random_trace()
    return dataclasses.replace(trace, data=trace.data.isel(selected).copy(deep=True))


def test_heads_that_were_recorded() -> None:
    trace = recording(attention_layer=[1], head=[0])
    assert heads.layers(trace) == [1]
    assert heads.numbers(trace, 1) == heads.recorded_heads(trace) == [0]
    assert heads.is_recorded(trace, 1, 0)
    assert not heads.is_recorded(trace, 1, 1)
    assert (heads.is_complete(trace), heads.is_complete(random_trace())) == (False, True)
    assert heads.all_of(trace, "layer") == [0, 1, 2]


def test_recorded_heads_are_measured_and_others_derived() -> None:
    trace = recording(head=[0])
    assert (heads.origin(trace, 1, 0), heads.origin(trace, 1, 1)) == ("measured", "derived")
    assert heads.recorded(trace, 1, [0]).dims == ("head", "query", "key")


def test_heads_are_not_computed_without_the_inputs_or_the_weights() -> None:
    with pytest.raises(RequestError, match="inputs were not recorded"):
        heads.engine_for(random_trace())
    trace = random_trace()
    data = trace.data.assign(layer_input=(("token", "layer", "width"), np.zeros((10, 3, 1), np.float32)))
    with pytest.raises(RequestError, match="not available here with the same weights"):
        heads.engine_for(dataclasses.replace(trace, data=data))
    with pytest.raises(RequestError, match="not available here"):
        heads.finder(trace)()


def test_recall_is_unknown_without_an_indexer() -> None:
    assert heads.indexer_recall(None, 1) is None
    assert heads.indexer_recall(Run(1, "opened", trace=random_trace()), 1) is None
