from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.trace.file import save
from model.trace.trace import Trace
from pages.observe.explore import overview
from tests.pages.observe.explore.test_drafts import figures
from tests.traces import random_trace, routed


def test_worst_layer_is_named_with_its_bound_of_chance() -> None:
    """Of eight experts two took all four tokens: each has four fair shares, three more than fair."""
    value, meaning = overview.worst_layer(routed(*[[5, 6]] * 4))
    assert value == "3 (L1)"
    assert "n = 4 tokens. In 95 % of fair layers it is at most 3." in meaning


@pytest.mark.parametrize("trace", [routed(unknown=3)], ids=["no known experts"])
def test_layers_of_unknown_experts_have_no_worst(trace: Trace) -> None:
    assert overview.worst_layer(trace)[0] == "not recorded"


def test_run_in_four_numbers(open_app: Callable[..., AppTest], recorded: Path) -> None:
    trace = random_trace(seed=9, num_prompt=5, num_new=9)
    save(trace, recorded / "story.safetensors")
    app = open_app()
    numbers = figures(app)
    assert (numbers["Tokens"], numbers["Tokens/s"]) == ("14", "not timed")
    bits = -trace.data["logprob"].values / np.log(2)
    assert numbers["Mean surprisal"] == f"{np.nanmean(bits[:5]):.3g} / {bits[5:].mean():.3g} bit"
    (meaning,) = [metric.help for metric in app.metric if metric.label == "Mean surprisal"]
    assert "bit of the prompt (n = 4) / " in meaning
    assert "bit of the new tokens (n = 9)" in meaning
    (count,) = [metric.help for metric in app.metric if metric.label == "Tokens"]
    assert count == "5 of the prompt, 9 new"
