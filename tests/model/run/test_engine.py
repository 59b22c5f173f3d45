"""What an engine promises: a recorded run is the same run, sessions do not touch each other, interventions act."""

import dataclasses
import threading
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint.device import DeviceError, choose_device
from model.network.cache import LatentCache
from model.network.edit import EditError, RoutingEdit, unchanged
from model.run import turns
from model.run.capture import capture_bytes
from model.run.engine import Engine
from model.run.interventions import BiasOff, ForceExpert, GroupLimitOff, KnockOut, TopK
from model.run.recorder import Recorder
from model.run.request import Capture, RequestError, RunRequest
from model.run.turns import PASSES, Ticket
from model.trace.trace import Trace
from tests.closeness import ROUNDING, relative_error
from tests.models import random_model, tiny_config

EVERYTHING = Capture(frozenset({"router", "attention", "inputs", "logits"}))
IDS = (0, 7, 101, 33, 250, 9, 9, 64)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    from model.checkpoint.weights import save_model

    folder: Path = tmp_path_factory.mktemp("tiny")
    save_model(random_model(tiny_config(eos_id=None)), folder, torch.float32)
    return Engine.load(folder, device="cpu")


def request(**changes: object) -> RunRequest:
    values: dict = {"token_ids": IDS, "max_new_tokens": 6, "capture": EVERYTHING}
    return RunRequest(**(values | changes))


def same_arrays(one: Trace, other: Trace) -> bool:
    return one.data.identical(other.data) and one.tokens == other.tokens


@torch.inference_mode()
def test_logits_do_not_depend_on_tape_or_empty_edit(engine: Engine) -> None:
    def run(recorder: Recorder | None, edit: RoutingEdit | None) -> list[torch.Tensor]:
        cache = LatentCache(engine.config, 12, engine.device, engine.dtype)
        first = engine.model(torch.tensor([IDS]), cache, recorder, edit)
        return [first] + [engine.model(torch.tensor([[i]]), cache, recorder, edit) for i in (3, 5, 8, 13)]

    nothing = RoutingEdit({layer: unchanged(engine.config, engine.device) for layer in engine.config.moe_layers})
    plain = run(None, None)
    for tape in (None, Recorder(engine.config, EVERYTHING), Recorder(engine.config, Capture())):
        for edit in (None, RoutingEdit({}), nothing):
            assert all(torch.equal(a, b) for a, b in zip(plain, run(tape, edit), strict=True))


def test_trace_holds_what_was_asked_for_and_no_more(engine: Engine) -> None:
    always = {"token_id", "logprob", "candidate_id", "candidate_logprob", "residual_norm"}
    always |= {"embedding_norm", "attention_residual_norm"}
    router = {"router_score", "expert_bias", "group_score", "group_kept", "expert_id", "gate_weight"}
    wanted = {frozenset(): set(), frozenset({"router"}): router, frozenset({"inputs"}): {"layer_input"}}
    wanted |= {frozenset({"attention"}): {"attention"}, frozenset({"logits"}): {"logits"}}
    for names, variables in wanted.items():
        assert set(engine.run(request(capture=Capture(names))).data.data_vars) == always | variables


def test_every_token_is_run_and_axes_agree(engine: Engine) -> None:
    trace = engine.run(request())
    assert trace.num_tokens == len(IDS) + 6
    assert trace.data["token_id"].values[: len(IDS)].tolist() == list(IDS)
    assert trace.prompt_mask.sum() == len(IDS)
    assert trace.data["expert_id"].coords["moe_layer"].values.tolist() == [1, 2, 3, 4]
    assert np.isnan(trace.data["logprob"].values[0])
    assert not np.isnan(trace.data["logprob"].values[1:]).any()


def test_stream_in_steps_equals_one_pass_over_the_result(engine: Engine) -> None:
    """Decoding token by token records what a single prefill of the same tokens records."""
    stepped = engine.run(request())
    at_once = engine.run(request(token_ids=tuple(stepped.data["token_id"].values.tolist()), max_new_tokens=0))
    norms = ("residual_norm", "embedding_norm", "attention_residual_norm")
    for name in (*norms, "logprob", "router_score", "gate_weight", "attention", "layer_input", "logits"):
        assert relative_error(stepped.data[name], at_once.data[name]) <= ROUNDING, name
    assert np.array_equal(stepped.data["expert_id"], at_once.data["expert_id"])


def test_logprob_and_candidates_are_of_the_models_own_distribution(engine: Engine) -> None:
    trace = engine.run(request(temperature=2.0, top_k=5, seed=3))
    expected = torch.tensor(trace.data["logits"].values).log_softmax(-1).numpy()
    ids = trace.data["token_id"].values
    assert relative_error(trace.data["logprob"].values[1:], expected[np.arange(len(ids) - 1), ids[1:]]) <= ROUNDING
    assert np.array_equal(trace.data["candidate_id"].values[:, 0], expected.argmax(-1))
    assert (np.diff(trace.data["candidate_logprob"].values, axis=1) <= 0).all()


def test_long_prompt_is_scored_in_pieces_without_a_seam(engine: Engine) -> None:
    ids = tuple(np.random.default_rng(0).integers(0, 320, 150).tolist())
    trace = engine.run(request(token_ids=ids, max_new_tokens=2, capture=Capture(frozenset({"logits"}))))
    expected = torch.tensor(trace.data["logits"].values).log_softmax(-1).numpy()
    fed = trace.data["token_id"].values
    assert relative_error(trace.data["logprob"].values[1:], expected[np.arange(len(fed) - 1), fed[1:]]) <= ROUNDING


def test_logits_of_a_long_prompt_are_never_there_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tuple(np.random.default_rng(0).integers(0, 320, 150).tolist())
    asked = request(token_ids=ids, max_new_tokens=3, temperature=1.0, capture=Capture(frozenset({"logits"})))
    at_once, made, logits = engine.run(asked), [], engine.model.logits

    def noted(x_BTD: torch.Tensor) -> torch.Tensor:
        made.append(x_BTD.shape[1])
        return logits(x_BTD)

    monkeypatch.setattr("model.run.predictions.LOGITS_AT_ONCE", 64 * 320)
    monkeypatch.setattr(engine.model, "logits", noted)
    in_blocks = engine.run(asked)
    assert made == [22, 64, 64, 1, 1, 1]
    for name, values in at_once.data.data_vars.items():
        assert relative_error(in_blocks.data[name], values) <= ROUNDING, name


def test_attention_rows_are_causal_distributions(engine: Engine) -> None:
    attention = engine.run(request()).data["attention"].values
    assert np.allclose(attention.sum(-1), 1, atol=1e-5)
    assert (np.triu(attention, 1) == 0).all()


def test_layers_and_heads_limit_attention(engine: Engine) -> None:
    full = engine.run(request()).data["attention"]
    part = engine.run(request(capture=Capture(frozenset({"attention"}), layers=(4, 1), heads=(2,)))).data["attention"]
    assert part.coords["attention_layer"].values.tolist() == [1, 4]
    assert np.array_equal(part, full.sel(attention_layer=[1, 4], head=[2]))


def test_same_request_same_trace_and_other_seed_other_text(engine: Engine) -> None:
    sampled = request(temperature=1.5, max_new_tokens=12, seed=5)
    assert same_arrays(engine.run(sampled), engine.run(sampled))
    assert not same_arrays(engine.run(sampled), engine.run(dataclasses.replace(sampled, seed=6)))


def test_generation_ends_after_the_end_token(engine: Engine) -> None:
    greedy = engine.run(request(max_new_tokens=40)).data["token_id"].values
    first_new = int(greedy[len(IDS)])
    ended = Engine(engine.model, None, "tiny", engine.folder)
    ended.config = dataclasses.replace(engine.config, eos_id=first_new)
    assert ended.run(request(max_new_tokens=40)).num_tokens == len(IDS) + 1
    assert ended.run(request(token_ids=(*IDS, first_new), max_new_tokens=0)).num_tokens == len(IDS) + 1


def test_cancel_keeps_what_was_done(engine: Engine) -> None:
    cancel, seen = threading.Event(), 0
    stream = engine.stream(request(max_new_tokens=50), cancel)
    while True:
        try:
            seen += len(next(stream).tokens)
            if seen >= len(IDS) + 3:
                cancel.set()
        except StopIteration as finished:
            trace = finished.value
            break
    assert trace.num_tokens == seen == len(IDS) + 3
    assert np.allclose(trace.data["attention"].sum("key"), 1, atol=1e-5)


def test_abandoned_stream_frees_the_engine(engine: Engine) -> None:
    stream = engine.stream(request())
    next(stream)
    stream.close()
    assert engine.run(request(max_new_tokens=1)).num_tokens == len(IDS) + 1


def test_stream_does_not_switch_off_gradients_for_its_caller(engine: Engine) -> None:
    stream = engine.stream(request())
    next(stream)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_knocked_out_expert_is_gone_and_the_rest_of_its_layer_stays(engine: Engine) -> None:
    plain = engine.run(request(max_new_tokens=0))
    layer, expert = 2, int(plain.data["expert_id"].sel(moe_layer=2).values[3, 0])
    edited = engine.run(request(max_new_tokens=0, interventions=(KnockOut(layer, expert),)))
    assert expert not in edited.data["expert_id"].sel(moe_layer=layer)
    assert np.array_equal(plain.data["router_score"].sel(moe_layer=1), edited.data["router_score"].sel(moe_layer=1))
    assert not np.array_equal(plain.data["router_score"].sel(moe_layer=3), edited.data["router_score"].sel(moe_layer=3))
    assert np.allclose(edited.data["gate_weight"].sum("rank"), 2.5, atol=1e-5)


def test_other_interventions_act(engine: Engine) -> None:
    forced = engine.run(request(interventions=(ForceExpert(3, 5),)))
    assert (forced.data["expert_id"].sel(moe_layer=3) == 5).any("rank").all()
    assert engine.run(request(interventions=(TopK(2),))).data.sizes["rank"] == 2
    assert engine.run(request(interventions=(GroupLimitOff(),))).data["group_kept"].all()
    unbiased = engine.run(request(max_new_tokens=0, interventions=(BiasOff(1),))).data.sel(moe_layer=1)
    scores = unbiased["router_score"].values.reshape(len(IDS), 4, 4)
    assert np.allclose(unbiased["group_score"], np.sort(scores, -1)[..., -2:].sum(-1), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"token_ids": (1, 320)}, RequestError, "token id 320 does not exist; ids are 0 to 319"),
        (
            {"max_new_tokens": 249},
            RequestError,
            "8 prompt tokens and 249 new ones do not fit the model's context of 256",
        ),
        ({"token_ids": None, "prompt": "hello"}, RequestError, "has no tokenizer.json; give token ids"),
        ({"interventions": (KnockOut(0, 1),)}, RequestError, "layer 0 has no router; MoE layers are 1 to 4"),
        ({"interventions": (KnockOut(1, 16),)}, RequestError, "expert 16 does not exist"),
        ({"interventions": (TopK(17),)}, RequestError, "top-k 17"),
        ({"interventions": tuple(KnockOut(1, e) for e in range(7))}, EditError, "layer 1: 1 experts may be all"),
        ({"interventions": (KnockOut(1, 2), ForceExpert(1, 2))}, EditError, "both knocked out and forced"),
        ({"capture": Capture(frozenset({"attention"}), layers=(5,))}, RequestError, "layer 5 does not exist"),
        ({"capture": Capture(frozenset({"attention"}), heads=(4,))}, RequestError, "head 4 does not exist"),
        ({"capture": Capture(frozenset({"indexer"}))}, RequestError, "no indexer"),
    ],
)
def test_impossible_requests_are_refused_before_anything_runs(
    engine: Engine, changes: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        next(engine.stream(request(**changes)))


def test_capture_that_does_not_fit_is_refused_with_its_size() -> None:
    attention = Capture(frozenset({"attention"}))
    real = tiny_config(num_layers=61, num_heads=128, max_positions=163840)
    assert capture_bytes(real, attention, 2048) == 61 * 128 * 2048**2 * 4
    assert capture_bytes(real, Capture(frozenset({"attention"}), layers=(3,), heads=(0,)), 2048) == 2048**2 * 4


def test_unknown_device_and_dtype_are_refused(engine: Engine) -> None:
    with pytest.raises(DeviceError, match="no device 'abacus'"):
        choose_device("abacus")
    with pytest.raises(RequestError, match="dtype 'float8'"):
        Engine.load(engine.folder, dtype="float8")


def test_bfloat16_run_keeps_its_inputs_as_bits(engine: Engine) -> None:
    trace = Engine.load(engine.folder, device="cpu", dtype="bfloat16").run(request())
    assert trace.data["layer_input"].dtype == np.uint16
    assert trace.data["router_score"].dtype == np.float32


def test_four_threads_do_not_touch_each_other(engine: Engine) -> None:
    """500 runs of different requests and interventions on one engine equal their single-threaded twins."""
    variants = [
        request(token_ids=IDS[: 3 + i], max_new_tokens=3, temperature=float(i % 2), seed=i, interventions=changes)
        for i, changes in enumerate([(), (KnockOut(1, 3),), (TopK(2),), (BiasOff(),), (ForceExpert(2, 7),)])
    ]
    alone = [engine.run(variant) for variant in variants]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: engine.run(variants[i % len(variants)]), range(500)))
    assert all(same_arrays(trace, alone[i % len(alone)]) for i, trace in enumerate(together))


def test_pass_over_a_prompt_that_lets_others_go_first_has_the_numbers_of_a_run_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [request(token_ids=tuple(range(2, 40 + seed)), seed=seed, max_new_tokens=3) for seed in range(3)]
    alone, pauses, join = [engine.run(each) for each in asked], [], PASSES.join

    def counted(visitor: Hashable = None) -> Ticket:
        pauses.append(visitor)
        return join(visitor)

    monkeypatch.setattr(turns, "QUANTUM", 0.0)
    monkeypatch.setattr(PASSES, "join", counted)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(engine.run, asked * 4))
    assert len(pauses) > 12 * 4  # more turns than passes
    for number, trace in enumerate(together):
        assert trace.data.identical(alone[number % 3].data)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(engine: Engine) -> None:
    on_gpu = Engine.load(engine.folder, device="cuda")
    ours, theirs = engine.run(request(max_new_tokens=0)), on_gpu.run(request(max_new_tokens=0))
    for name, tolerance in (("logits", 1e-4), ("router_score", 2e-5), ("gate_weight", 2e-5), ("attention", 2e-5)):
        assert np.allclose(ours.data[name], theirs.data[name], atol=tolerance), name


def test_norms_are_those_of_the_stream_at_their_places(engine: Engine) -> None:
    trace = engine.run(request(capture=Capture(frozenset({"inputs"}))))
    entering = np.linalg.norm(trace.data["layer_input"].values, axis=-1)
    assert relative_error(trace.data["embedding_norm"].values, entering[:, 0]) <= ROUNDING
    assert relative_error(trace.data["residual_norm"].values[:, :-1], entering[:, 1:]) <= ROUNDING
    copy = Engine(random_model(engine.config), None, "copy", engine.folder)
    with torch.no_grad():
        copy.model.block(0).attention.output.weight.zero_()  # so that the first layer's attention adds nothing
    silent = copy.run(request())
    assert (
        relative_error(silent.data["attention_residual_norm"].values[:, 0], silent.data["embedding_norm"]) <= ROUNDING
    )
    assert relative_error(silent.data["residual_norm"].values[:, 0], silent.data["embedding_norm"]) > 0.01
