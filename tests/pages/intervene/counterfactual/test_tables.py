"""The tables of an experiment, by hand."""

from types import SimpleNamespace

import pytest
import xarray as xr

from model.trace.trace import Trace
from pages.intervene.counterfactual import tables
from pages.intervene.counterfactual.runs import Experiment
from tests.traces import random_trace


def effect(**values: list) -> xr.Dataset:
    dims = {"kl": "token", "logprob_change": "token", "equal_sets": "moe_layer", "jaccard": "moe_layer"}
    draws = ("draw",) if isinstance(values["kl"][0], list) else ()
    variables = {name: ((*draws, dims[name]), numbers) for name, numbers in values.items()}
    return xr.Dataset(variables, coords={"moe_layer": [1, 2]})


@pytest.fixture
def experiment() -> Experiment:
    trace: Trace = random_trace(num_prompt=2, num_new=0)
    result = SimpleNamespace(
        effect=effect(kl=[1.0, 3.0], logprob_change=[float("nan"), -2.0], equal_sets=[0.5, 1.0], jaccard=[0.6, 1.0]),
        draws=effect(
            kl=[[1.0, 2.0], [0.0, 4.0]],
            logprob_change=[[float("nan"), 1.0], [float("nan"), 3.0]],
            equal_sets=[[0.5, 0.5], [0.0, 1.0]],
            jaccard=[[1.0, 0.0], [0.5, 0.5]],
        ),
        control=None,
        matched=None,
    )
    return Experiment(trace, (), result)  # type: ignore[arg-type]


def test_summary_has_a_row_for_the_change_and_each_draw(experiment: Experiment) -> None:
    table = tables.summary(experiment)
    assert table["run"].tolist() == ["this change", "control 1", "control 2"]
    assert table["mean KL (nat)"].tolist() == [2.0, 1.5, 2.0]
    assert table["mean change of log-probability (nat)"].tolist() == [-2.0, 1.0, 3.0]
    assert table["same experts, all layers"].tolist() == [0.75, 0.5, 0.5]


def test_tokens_and_layers_stand_beside_the_band_of_the_control(experiment: Experiment) -> None:
    table = tables.by_token(experiment)
    assert table["KL after it (nat)"].tolist() == [1.0, 3.0]
    assert table[["kl, control from", "kl, control to"]].values.tolist() == [[0.0, 1.0], [2.0, 4.0]]
    layers = tables.by_layer(experiment)
    assert layers["layer"].tolist() == [1, 2]
    assert layers[["jaccard, control from", "jaccard, control to"]].values.tolist() == [[0.5, 1.0], [0.0, 0.5]]
