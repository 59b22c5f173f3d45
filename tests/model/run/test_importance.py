"""The importance map against one plain forward pass per knock-out, for every expert of several models."""

import functools
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from model.network.edit import EditError
from model.run import importance as module
from model.run.engine import Engine
from model.run.importance import Importance, importance
from model.run.interventions import KnockOut
from model.run.request import RequestError
from model.run.routing_edit import routing_edit
from model.run.turns import PASSES
from tests.models import random_model, tiny_config

INDEXER = {"model_type": "deepseek_v32", "index_heads": 3, "index_head_dim": 12, "index_topk": 5}
SOFTMAX = {"model_type": "deepseek_v2", "scoring": "softmax", "normalise_weights": False}
MODELS = {
    "v3": {},
    "v3, no groups, no shared expert": {"num_groups": 1, "num_kept_groups": 1, "num_shared_experts": 0},
    "v3, one expert per token": {"top_k": 1, "q_lora_rank": None, "tie_embeddings": True},
    "v2": SOFTMAX | {"selection": "group_limited_greedy"},
    "v2 lite": SOFTMAX | {"selection": "greedy", "num_groups": 1, "num_kept_groups": 1},
    "v3.2": INDEXER,
    "glm": INDEXER | {"model_type": "glm_moe_dsa", "indexer_types": ("full", "shared", "full", "shared")},
}
token_ids = st.lists(st.integers(0, 319), min_size=2, max_size=16)


@functools.cache
def engine_of(name: str) -> Engine:
    model = random_model(tiny_config(eos_id=None, num_layers=4, **MODELS[name]))
    return Engine(model, None, name, Path())


def last(engine: Engine, ids: list[int], cancel: threading.Event | None = None) -> Importance:
    return list(importance(engine, ids, cancel))[-1]


@torch.inference_mode()
def plain(engine: Engine, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean change of log-probability and mean KL, [moe_layer, expert], fp64, by a whole pass for each."""
    fed, config = torch.tensor([ids]), engine.config
    before = engine.model(fed)[0].double().log_softmax(-1)
    changes, kls = [], []
    for layer in config.moe_layers:
        for expert in range(config.num_experts):
            edit = routing_edit((KnockOut(layer, expert),), config, engine.device)
            after = engine.model(fed, edit=edit)[0].double().log_softmax(-1)
            kls.append(float((before.exp() * (before - after)).sum(-1).mean()))
            changes.append(float((after - before)[torch.arange(len(ids) - 1), fed[0, 1:]].mean()))
    shape = (len(config.moe_layers), config.num_experts)
    return np.reshape(changes, shape), np.reshape(kls, shape)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=4)
@given(ids=token_ids)
def test_same_numbers_as_a_plain_pass_for_each(name: str, ids: list[int]) -> None:
    engine = engine_of(name)
    found = last(engine, ids)
    changes, kls = plain(engine, ids)
    np.testing.assert_allclose(found.effects["logprob_change"], changes, atol=1e-4, rtol=0)
    np.testing.assert_allclose(found.effects["kl"], kls, atol=1e-4, rtol=0)
    without_effect = found.effects["rerouted"].values == 0
    assert (found.effects["kl"].values[without_effect] == 0).all()
    assert (found.effects["logprob_change"].values[without_effect] == 0).all()
    assert (kls[without_effect] == 0).all()  # to the bit, in the plain pass too
    assert found.done == found.total == changes.size


@pytest.mark.parametrize("name", ["v3", "v3.2"])
def test_small_batches_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, ids = engine_of(name), np.random.default_rng(1).integers(0, 320, 30).tolist()
    whole = last(engine, ids).effects
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 1)
    monkeypatch.setattr(module, "VALUES_AT_ONCE", 700)
    small = list(importance(engine, ids))
    assert len(small) > 30
    for variable in ("logprob_change", "kl"):
        np.testing.assert_allclose(small[-1].effects[variable], whole[variable], atol=1e-6)


def test_second_order_is_taken_for_small_effects_only(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, ids = engine_of("v3"), list(range(20))
    _, kls = plain(engine, ids)
    monkeypatch.setattr(module, "SMALL", 0.0)
    exact = last(engine, ids).effects
    np.testing.assert_allclose(exact["kl"], kls, atol=2e-6)
    monkeypatch.setattr(module, "SMALL", 1e9)
    assert np.abs(last(engine, ids).effects["kl"] - kls).max() > 1e-3


def test_changes_of_any_size_are_measured() -> None:
    model = random_model(tiny_config(eos_id=None))
    with torch.no_grad():
        model.head_weight.mul_(100.0)
    engine, ids = Engine(model, None, "loud", Path()), list(range(12))
    changes, kls = plain(engine, ids)
    assert kls.max() > 20
    found = last(engine, ids).effects
    np.testing.assert_allclose(found["kl"], kls, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["logprob_change"], changes, rtol=1e-4, atol=1e-3)


def test_counts_who_chose_and_who_was_rerouted() -> None:
    engine, ids = engine_of("v3"), list(range(40, 60))
    found = last(engine, ids).effects
    assert found["chosen_by"].sum("expert").values.tolist() == [20 * 4] * 3
    assert (found["rerouted"] >= found["chosen_by"]).all()
    assert (found["rerouted"] > found["chosen_by"]).any()  # by the groups' scores
    idle = found["rerouted"].values == 0
    assert idle.any()
    assert not found["chosen_by"].values[idle].any()


def test_model_is_only_read() -> None:
    engine, ids = engine_of("v3"), [5, 6, 7, 8]
    before = {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}
    last(engine, ids)
    assert all(torch.equal(tensor, before[name]) for name, tensor in engine.model.state_dict().items())


def test_grows_and_stops_when_cancelled() -> None:
    engine, cancel, seen = engine_of("v3"), threading.Event(), []
    for so_far in importance(engine, list(range(30)), cancel):
        assert PASSES.begin(ticket := PASSES.join(), 0)  # another run may go on between two batches
        PASSES.leave(ticket)
        seen.append(so_far)
        if so_far.done > 16:
            cancel.set()
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert 16 < seen[-1].done < seen[-1].total == 48
    kl = seen[-1].effects["kl"].values
    assert int(np.isfinite(kl).sum()) == seen[-1].done
    assert np.isnan(kl[-1]).all()
    assert np.isfinite(kl[0]).all()
    np.testing.assert_array_equal(kl[0], last(engine, list(range(30))).effects["kl"].values[0])


def test_too_few_survivors_are_refused() -> None:
    config = tiny_config(num_groups=8, num_kept_groups=2, top_k=4, eos_id=None)  # two kept groups hold just four
    engine = Engine(random_model(config), None, "tight", Path())
    with pytest.raises(EditError, match="layer 1: 3 experts may be all that is left to choose 4 from"):
        last(engine, [1, 2, 3])


@pytest.mark.parametrize(
    ("ids", "message"),
    [([], "at least 2 tokens"), ([1], "at least 2 tokens"), ([1, 999], "999 does not exist"), ([1] * 300, "300")],
)
def test_unusable_texts_are_refused(ids: list[int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        last(engine_of("v3"), ids)


def test_sums_in_double_precision_are_made_on_the_cpu() -> None:
    """MPS has no fp64: a tensor must be moved to the CPU before it is converted to or made in fp64."""

    class NoFp64(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.moved: list[torch.Tensor] = []

        def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN202
            kwargs = kwargs or {}
            if func is torch.Tensor.double:
                assert any(args[0] is tensor for tensor in self.moved)
            if kwargs.get("dtype") is torch.float64:
                assert kwargs.get("device") is None
            found = func(*args, **kwargs)
            if func is torch.Tensor.cpu:
                self.moved.append(found)
            return found

    with NoFp64() as mode:
        assert np.isfinite(last(engine_of("v3"), [5, 6, 7, 8]).effects["kl"]).all()
    assert mode.moved


def test_a_model_without_experts_is_refused() -> None:
    dense = Engine(random_model(tiny_config(num_layers=2, num_dense_layers=2)), None, "dense", Path())
    with pytest.raises(RequestError, match="dense has no MoE layers"):
        last(dense, [1, 2, 3])
