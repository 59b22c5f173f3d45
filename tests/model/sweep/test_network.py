"""The small tape over padded batches, against the trace of each window alone."""

from pathlib import Path

import numpy as np
import pytest

from model.run.engine import Engine
from model.run.request import Capture, RunRequest
from model.sweep.network import NetworkSource
from model.sweep.windows import Window
from model.trace.near_ties import place_margin
from model.trace.observed_rule import rule_of
from tests.models import random_model, tiny_config
from tests.sources import tokenizer


class FolderlessEngine(Engine):
    """An engine that does not read a checksum of its weights."""

    @property
    def description(self) -> dict[str, object]:
        return {"name": "tiny", "config": self.config.to_json(), "weights_sha256": None, "tokenizer_sha256": None}


def engine_of(**changes: object) -> Engine:
    return FolderlessEngine(random_model(tiny_config(**changes)), None, "tiny", Path("tiny"))


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_groups": 1, "num_kept_groups": 1}, {"top_k": 8}, {"scoring": "softmax"}],
)
def test_a_padded_batch_gives_the_decisions_of_each_trace(changes: dict[str, object]) -> None:
    engine, rng = engine_of(**changes), np.random.default_rng(0)
    windows = [Window(number, rng.integers(0, 320, size), 0, 0) for number, size in enumerate((1, 5, 30))]
    source = NetworkSource(engine, tokenizer(), bits=True)
    decisions = source.decisions(windows)
    start = 0
    for window in windows:
        end = start + len(window.token_ids)
        trace = engine.run(RunRequest(token_ids=tuple(window.token_ids.tolist()), max_new_tokens=0, capture=Capture()))
        ids, order = np.sort(trace.data["expert_id"].values, -1), np.argsort(trace.data["expert_id"].values, -1)
        assert np.array_equal(decisions.ids_NLK[start:end], ids)
        weights = np.take_along_axis(trace.data["gate_weight"].values, order, -1)
        np.testing.assert_allclose(decisions.weights_NLK[start:end], weights, rtol=1e-4, atol=1e-6)
        margins = place_margin(trace.data, rule_of(trace)).values
        np.testing.assert_allclose(decisions.margins_NL[start:end], margins, atol=1e-5)
        bits = -trace.data["logprob"].values / np.log(2)
        np.testing.assert_allclose(decisions.bits_N[start:end], bits, rtol=1e-3, atol=1e-4)
        start = end
    assert start == len(decisions.ids_NLK)


def test_norms_belong_to_the_experts_of_their_column() -> None:
    engine, ids = engine_of(), np.arange(3, 60, 3)
    decisions = NetworkSource(engine, tokenizer(), bits=False).decisions([Window(0, ids, 0, 0)])
    most_used = np.bincount(decisions.ids_NLK[:, 3].ravel()).argmax()
    scaled = engine_of()
    scaled.model.experts()[3].down.data[most_used] *= 3  # in the last layer
    again = NetworkSource(scaled, tokenizer(), bits=False).decisions([Window(0, ids, 0, 0)])
    is_scaled = decisions.ids_NLK[:, 3] == most_used
    ratio = again.norms_NLK[:, 3] / decisions.norms_NLK[:, 3]
    np.testing.assert_allclose(ratio, np.where(is_scaled, 3.0, 1.0), rtol=1e-5)
    assert decisions.bits_N is None
