import numpy as np

from model.families.engine import TransformersEngine
from model.run.request import RunRequest
from model.sweep.family import FamilySource
from model.sweep.windows import Window
from tests.families import saved
from tests.sources import tokenizer


def test_windows_of_a_family_give_the_decisions_of_their_traces() -> None:
    engine = TransformersEngine.load(saved("qwen3_moe"), device="cpu", dtype="float32")
    source = FamilySource(engine, tokenizer(), bits=True)
    assert source.capture == {"weights", "bits"}
    windows = [Window(0, np.array([5, 9, 200, 31]), 0, 0), Window(1, np.array([7]), 0, 0)]
    decisions = source.decisions(windows)
    trace = engine.run(RunRequest(token_ids=(5, 9, 200, 31), max_new_tokens=0))
    order = np.argsort(trace.data["expert_id"].values, -1)
    ids = np.take_along_axis(trace.data["expert_id"].values, order, -1)
    assert np.array_equal(decisions.ids_NLK[:4], ids)
    weights = np.take_along_axis(trace.data["gate_weight"].values, order, -1)
    np.testing.assert_allclose(decisions.weights_NLK[:4], weights, rtol=1e-4)
    bits = -trace.data["logprob"].values / np.log(2)
    np.testing.assert_allclose(decisions.bits_N, [*bits, np.nan], rtol=1e-4)
    assert decisions.margins_NL is None
    assert decisions.norms_NLK is None
