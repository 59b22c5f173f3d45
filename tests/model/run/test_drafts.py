"""Drafts: verifying them changes no text, and a rejected draft leaves nothing in the trace."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.checkpoint.weights import save_model
from model.network.transformer import Transformer
from model.run.engine import Engine
from model.run.interventions import KnockOut
from model.run.request import Capture, RequestError, RunRequest
from model.trace.trace import Trace
from tests.closeness import ROUNDING, relative_error
from tests.models import random_model, tiny_config

SPARSE = {"model_type": "deepseek_v32", "index_heads": 16, "index_head_dim": 16, "index_topk": 12}
IDS = (0, 7, 101, 33, 250, 9, 9, 64)
EVERYTHING = frozenset({"router", "attention", "inputs", "logits"})


def repeating(model: Transformer) -> Transformer:
    """Return a model that mostly repeats the last token, so that some drafts are accepted and others rejected."""
    assert model.mtp is not None
    with torch.no_grad():
        for block in model.blocks:
            block.attention.output.weight *= 0.35
            block.ffn_norm.weight *= 0.2
        model.mtp.join.weight.copy_(0.1 * model.mtp.join.weight + torch.eye(model.config.hidden_size).repeat(1, 2))
        model.mtp.block.attention.output.weight *= 0.2
        model.mtp.block.ffn_norm.weight *= 0.2
        model.head.weight.copy_(model.embedding.weight.roll(-1, 0) + 0.5 * torch.randn_like(model.embedding.weight))
    return model


@pytest.fixture(scope="module", params=["v3", "v32"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    torch.manual_seed(0)
    changes = SPARSE if request.param == "v32" else {}
    folder: Path = tmp_path_factory.mktemp("drafting")
    save_model(repeating(random_model(tiny_config(eos_id=None, has_mtp=True, **changes))), folder, torch.float32)
    return Engine.load(folder, device="cpu")


def run(engine: Engine, drafts: bool, variables: frozenset[str] = frozenset({"router"}), **changes: object) -> Trace:
    captured = Capture(variables | ({"drafts"} if drafts else frozenset()))
    values: dict = {"token_ids": IDS, "max_new_tokens": 40, "verify_drafts": drafts}
    return engine.run(RunRequest(capture=captured, **(values | changes)))


def test_engine_has_some_accepted_and_some_rejected_drafts(engine: Engine) -> None:
    data = run(engine, drafts=True).data
    verified = data["draft_tried"].values
    matches = (data["draft_id"] == data["token_id"]).values[verified]
    assert 0 < matches.sum() < len(matches)


@settings(max_examples=25, deadline=None)
@given(
    ids=st.lists(st.integers(0, 319), min_size=1, max_size=12),
    new=st.integers(0, 24),
    temperature=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 5),
)
def test_trying_drafts_changes_no_token(
    engine: Engine, ids: list[int], new: int, temperature: float, seed: int
) -> None:
    changes = {"token_ids": tuple(ids), "max_new_tokens": new, "temperature": temperature, "seed": seed}
    plain, drafted = run(engine, drafts=False, **changes), run(engine, drafts=True, **changes)
    assert drafted.data["token_id"].values.tolist() == plain.data["token_id"].values.tolist()
    assert drafted.num_tokens == len(ids) + new


def test_what_is_recorded_is_that_of_plain_decoding(engine: Engine) -> None:
    variables = EVERYTHING | ({"indexer"} if engine.config.is_sparse else frozenset())
    plain, drafted = (run(engine, drafts, variables) for drafts in (False, True))
    for name, values in plain.data.data_vars.items():
        ours = drafted.data[name].values
        assert ours.shape == values.shape, name
        is_float = ours.dtype.kind == "f"
        assert relative_error(ours, values) <= ROUNDING if is_float else np.array_equal(ours, values), name


def test_an_edit_changes_drafted_runs_as_plain_ones(engine: Engine) -> None:
    changes = {"interventions": (KnockOut(2, 3), KnockOut(3, 1))}
    plain, drafted = run(engine, drafts=False, **changes), run(engine, drafts=True, **changes)
    assert drafted.data["token_id"].identical(plain.data["token_id"])


@torch.inference_mode()
def test_draft_is_the_modules_best_two_tokens_later(engine: Engine) -> None:
    trace = run(engine, drafts=True)
    ids = torch.tensor(trace.data["token_id"].values[None].astype(np.int64))
    logits = engine.model.draft_logits(engine.model.hidden(ids)[:, :-1], ids[:, 1:])[0]
    size, logprobs = float(logits.abs().max()), logits.log_softmax(-1)
    drafts = trace.data["draft_id"].values
    assert drafts[:2].tolist() == [-1, -1]
    assert np.isnan(trace.data["draft_logprob"].values[:2]).all()
    assert drafts[2:].tolist() == logprobs[:-1].argmax(-1).tolist()
    assert relative_error(trace.data["draft_logprob"].values[2:], logprobs[:-1].amax(-1), size) <= ROUNDING


def test_verified_drafts_and_their_routing(engine: Engine) -> None:
    trace = run(engine, drafts=True)
    data, num_prompt = trace.data, len(IDS)
    verified, matches = data["draft_tried"].values, (data["draft_id"] == data["token_id"]).values
    assert not verified[: num_prompt + 1].any()  # the first new token is chosen with the prompt's own pass
    sent, experts = data["draft_expert_id"].values, data["expert_id"].values
    assert ((sent >= 0).all((1, 2)) == verified).all()
    assert np.array_equal(sent[verified & matches], experts[verified & matches])
    # After an accepted draft, the next token has been chosen already: no draft of it is verified.
    after_accepted = np.flatnonzero(verified & matches)[:-1] + 1
    assert not verified[after_accepted[after_accepted < len(verified)]].any()


def test_a_rejected_draft_was_sent_where_the_model_sends_it(engine: Engine) -> None:
    trace = run(engine, drafts=True)
    data = trace.data
    rejected = np.flatnonzero(data["draft_tried"].values & (data["draft_id"] != data["token_id"]).values)
    for place in rejected[:4]:
        ids = (*data["token_id"].values[:place].tolist(), int(data["draft_id"].values[place]))
        fed = run(engine, drafts=False, token_ids=ids, max_new_tokens=0)
        assert np.array_equal(fed.data["expert_id"].values[-1], data["draft_expert_id"].values[place])


def test_nothing_is_verified_after_the_end_of_the_sequence(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_model(repeating(random_model(tiny_config(eos_id=None, has_mtp=True))), tmp_path / "model", torch.float32)
    engine = Engine.load(tmp_path / "model", device="cpu")
    ids = run(engine, drafts=False).data["token_id"].values.tolist()
    for eos in set(ids[len(IDS) :]):
        engine.config = engine.model.config = dataclasses.replace(engine.config, eos_id=eos)
        ending = ids[: ids.index(eos, len(IDS)) + 1]
        assert run(engine, drafts=True).data["token_id"].values.tolist() == ending


def test_steps_hold_the_tokens_that_entered(engine: Engine) -> None:
    steps = list(engine.stream(RunRequest(token_ids=IDS, max_new_tokens=40, verify_drafts=True)))
    assert [step.start for step in steps] == np.cumsum([0, *(len(step.tokens) for step in steps)])[:-1].tolist()
    assert {len(step.tokens) for step in steps[1:]} == {1, 2}
    assert sum(len(step.tokens) for step in steps) == len(IDS) + 40


def counted_passes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of positions of each pass of the module from now on."""
    passes, draft_logits = [], engine.model.draft_logits

    def counted(x_BTD: torch.Tensor, *others: object) -> torch.Tensor:
        passes.append(x_BTD.shape[1])
        return draft_logits(x_BTD, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.model, "draft_logits", counted)
    return passes


def test_recording_drafts_costs_one_pass_and_changes_nothing_else(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, verified = run(engine, drafts=False, variables=EVERYTHING), run(engine, drafts=True)
    passes = counted_passes(engine, monkeypatch)
    drafted = run(engine, drafts=True, variables=EVERYTHING, verify_drafts=False)
    assert passes == [len(IDS) + 40]
    assert set(drafted.data) - set(plain.data) == {"draft_id", "draft_logprob", "draft_tried"}
    for name, values in plain.data.data_vars.items():
        assert values.identical(drafted.data[name]), name
    assert not drafted.data["draft_tried"].any()
    assert drafted.data["draft_id"].identical(verified.data["draft_id"])
    size = np.abs(plain.data["logits"].values).max()
    assert relative_error(drafted.data["draft_logprob"], verified.data["draft_logprob"], size) <= ROUNDING


def test_drafts_are_verified_also_if_they_are_not_recorded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = counted_passes(engine, monkeypatch)
    trace = run(engine, drafts=False, verify_drafts=True)
    assert not [name for name in trace.data if str(name).startswith("draft")]
    assert len(passes) < 40  # without verification, there would be one pass of the model per new token
    assert run(engine, drafts=False, verify_drafts=True, max_new_tokens=0).num_tokens == len(IDS)


def test_stopped_run_has_the_drafts_of_its_tokens(engine: Engine) -> None:
    cancel = threading.Event()
    request = RunRequest(token_ids=IDS, max_new_tokens=40, capture=Capture(frozenset({"drafts"})))
    steps = engine.stream(request, cancel)
    for _ in range(5):
        next(steps)
    cancel.set()
    with pytest.raises(StopIteration) as stopped:
        next(steps)
    trace, whole = stopped.value.value, engine.run(request)
    assert trace.num_tokens == len(IDS) + 4
    assert np.array_equal(trace.data["draft_id"], whole.data["draft_id"][: trace.num_tokens])


@pytest.mark.parametrize("changes", [{}, {"verify_drafts": True}], ids=["recorded", "verified"])
def test_model_without_the_module_says_so(tmp_path: Path, changes: dict) -> None:
    save_model(random_model(tiny_config()), tmp_path / "plain", torch.float32)
    engine = Engine.load(tmp_path / "plain", device="cpu")
    with pytest.raises(RequestError, match="no multi-token-prediction module"):
        run(engine, drafts=not changes, **changes)


def test_drafts_of_a_long_prompt_are_made_in_blocks(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tuple(np.random.default_rng(3).integers(0, 320, 150).tolist())
    at_once = run(engine, drafts=True, token_ids=ids, max_new_tokens=8).data
    monkeypatch.setattr("model.run.predictions.LOGITS_AT_ONCE", 64 * 320)
    made = counted_passes(engine, monkeypatch)
    in_blocks = run(engine, drafts=True, token_ids=ids, max_new_tokens=8).data
    assert made[:3] == [64, 64, 22]
    assert np.array_equal(in_blocks["draft_id"], at_once["draft_id"])
    assert relative_error(in_blocks["draft_logprob"], at_once["draft_logprob"]) <= ROUNDING
