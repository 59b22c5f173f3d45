"""Every family opened by its folder: the trace holds what the run computed, and its own routing replays to the bit."""

import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.checkpoint.header import CheckpointError
from model.families.choose import load
from model.families.engine import TransformersEngine
from model.families.folder import open_folder
from model.families.probed import fed
from model.run.from_disk import Stopped
from model.run.interventions import KnockOut, Replay, TopK
from model.run.protocol import LocalEngineProtocol
from model.run.request import Capture, RequestError, RunRequest
from model.run.turns import PASSES
from model.trace.observed_rule import rule_of
from model.trace.trace import Trace
from tests.closeness import ROUNDING, relative_error
from tests.families import FAMILIES, build, saved
from tests.families_table import cells, line
from tests.model.checkpoint.vocabularies import by_hand, write

IDS = tuple(range(3, 27))
README = (Path(__file__).parents[3] / "README.md").read_text().splitlines()
BY_IDS_ONLY = {"inkling_text", "phimoe"}
EVERYTHING = frozenset({"router", "attention", "inputs", "logits"})


def opened(model_type: str) -> TransformersEngine:
    engine = load(saved(model_type), "transformers", device="cpu")
    assert isinstance(engine, TransformersEngine)
    return engine


def run(engine: TransformersEngine, **changes: object) -> Trace:
    capture = Capture(EVERYTHING & engine.abilities.captures)
    return engine.run(RunRequest(**{"token_ids": IDS, "capture": capture} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("model_type", [name for name in FAMILIES if name != "doge"])
def test_every_family_opens_and_records(model_type: str) -> None:
    engine = opened(model_type)
    assert isinstance(engine, LocalEngineProtocol)
    trace = run(engine)
    with torch.inference_mode():
        own = fed(build(model_type), torch.tensor(IDS)).logits[0].float().numpy()
    np.testing.assert_array_equal(trace.data["logits"].values, own)
    replayed = run(engine, interventions=(Replay.of(trace),))
    np.testing.assert_array_equal(replayed.data["logits"].values, own)
    check_rule(model_type, trace)
    assert line(cells(model_type, engine)) in README
    attention = trace.data["attention"]
    assert attention.sizes["attention_layer"] == len(engine.probed.attention)
    assert np.triu(attention.values, 1).max() == 0
    assert float(attention.sum("key").max()) < 1 + ROUNDING


def check_rule(model_type: str, trace: Trace) -> None:
    """The rule that the trace states gives the recorded weights from the recorded logits."""
    rule = rule_of(trace)
    assert trace.model["router"]["rule"] is not None
    assert (rule.normalise_weights is None) is (model_type in BY_IDS_ONLY)
    if model_type in BY_IDS_ONLY:
        assert trace.model["router"]["note"]
        return
    ids, weights = trace.data["expert_id"].values.astype(int), trace.data["gate_weight"].values
    affinity = rule.affinity(trace.data["router_logit"].values)
    factors = None
    if trace.has("expert_factor"):
        table = np.broadcast_to(trace.data["expert_factor"].values, affinity.shape)
        factors = np.take_along_axis(table, ids, -1)
    expected = rule.weights(np.take_along_axis(affinity, ids, -1), factors)
    idle_from = trace.model["shape"]["idle_from"]
    counts = weights != 0 if model_type == "zaya" else np.ones_like(ids, dtype=bool)
    assert idle_from is None or idle_from in ids or counts.all()
    assert relative_error(weights[counts], expected[counts]) < 2 * ROUNDING


@pytest.mark.parametrize("model_type", ["qwen3_moe", "gpt_oss", "deepseek_v4", "jamba"])
def test_generated_tokens_are_recorded_as_in_a_prompt(model_type: str) -> None:
    engine = opened(model_type)
    trace = run(engine, max_new_tokens=12)
    assert [token.generated for token in trace.tokens] == [False] * 24 + [True] * 12
    again = run(engine, token_ids=tuple(token.id for token in trace.tokens))
    for name in ("logits", "router_logit", "residual_norm", "attention"):
        assert relative_error(trace.data[name].values, again.data[name].values) < 10 * ROUNDING, name
    np.testing.assert_array_equal(trace.data["expert_id"].values, again.data["expert_id"].values)
    assert trace.origin["engine"] == "transformers"


def test_both_engines_run_a_v3_checkpoint_alike() -> None:
    traces = [load(saved("deepseek_v3"), name, device="cpu", dtype="float32").run(
        RunRequest(token_ids=IDS, capture=Capture(EVERYTHING))) for name in ("own", "transformers")]  # fmt: skip
    own, other = (trace.data for trace in traces)
    np.testing.assert_array_equal(own["expert_id"].values, other["expert_id"].values)
    shared = set(own.data_vars) & set(other.data_vars) - {"expert_id", "token_id", "candidate_id", "group_kept"}
    assert {"router_score", "expert_bias", "group_score", "gate_weight", "attention", "layer_input"} <= shared
    for name in shared:
        assert relative_error(own[name].values, other[name].values) < 10 * ROUNDING, name


def test_what_a_family_lacks_is_refused_with_its_reason() -> None:
    hybrid, several = opened("jamba"), opened("deepseek_v4")
    with pytest.raises(RequestError, match="layer 0 has no attention weights to record; layers that have: 1, 3"):
        hybrid.check(RunRequest(token_ids=IDS, capture=Capture(frozenset({"attention"}), layers=(0,))))
    with pytest.raises(RequestError, match="several residual streams"):
        several.check(RunRequest(token_ids=IDS, capture=Capture(frozenset({"inputs"}))))
    with pytest.raises(RequestError, match="only the own network records them"):
        several.check(RunRequest(token_ids=IDS, capture=Capture(frozenset({"indexer"}))))
    with pytest.raises(RequestError, match="token id 257 does not exist"):
        hybrid.check(RunRequest(token_ids=(257,)))
    with pytest.raises(RequestError, match="do not fit the model's context"):
        hybrid.check(RunRequest(token_ids=IDS, max_new_tokens=1000))
    with pytest.raises(RequestError, match="no tokenizer.json"):
        hybrid.check(RunRequest(prompt="text"))


def test_a_number_of_experts_that_a_family_cannot_run_is_refused() -> None:
    for model_type, k, reason in (("jetmoe", 2, "built in"), ("longcat_flash", 1, "experts per token")):
        with pytest.raises(RequestError, match=f"cannot run {model_type} with {k} experts per token.*") as refused:
            opened(model_type).check(RunRequest(token_ids=IDS, interventions=(TopK(k),)))
        assert reason in str(refused.value)
    other = opened("mixtral").run(RunRequest(token_ids=IDS, interventions=(TopK(2),)))
    assert other.data.sizes["rank"] == 2


def test_a_model_that_transformers_itself_cannot_run_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AttributeError("'Output' object has no attribute 'image_outputs'")

    monkeypatch.setattr("model.families.probed.fed", fail)
    with pytest.raises(CheckpointError, match="cannot run mixtral: 'Output' object has no.*; try another version"):
        opened("mixtral")


def test_runs_of_several_threads_do_not_mix() -> None:
    engine = opened("qwen3_moe")
    requests = [
        RunRequest(token_ids=tuple(range(3 + shift, 15 + shift)), max_new_tokens=2, interventions=changes)
        for shift in range(2)
        for changes in ((), (KnockOut(1, 2),))
    ]
    alone = [engine.run(request) for request in requests]
    together: dict[int, list[Trace]] = {number: [] for number in range(len(requests))}

    def work(number: int) -> None:
        together[number] = [engine.run(requests[number]) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(number,)) for number in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, traces in together.items():
        for trace in traces:
            for name, values in alone[number].data.data_vars.items():
                np.testing.assert_array_equal(trace.data[name].values, values.values)


def test_stop_keeps_the_finished_steps() -> None:
    engine, cancel = opened("mixtral"), threading.Event()
    steps = engine.stream(RunRequest(token_ids=IDS, max_new_tokens=9), cancel)
    for _ in range(3):
        next(steps)
    cancel.set()
    with pytest.raises(StopIteration) as ended:
        next(steps)
    assert ended.value.value.num_tokens == 24 + 2


def test_stop_ends_the_wait_for_another_run() -> None:
    engine, cancel = opened("mixtral"), threading.Event()
    steps = engine.stream(RunRequest(token_ids=IDS, max_new_tokens=9), cancel)
    next(steps)
    cancel.set()
    ticket = PASSES.join()
    try:
        with pytest.raises(Stopped, match="before its turn"):
            engine.run(RunRequest(token_ids=IDS), cancel)
        with pytest.raises(StopIteration):
            next(steps)
    finally:
        PASSES.leave(ticket)


def test_a_text_ends_at_a_token_of_the_generation_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved("mixtral"), folder)
    first = opened("mixtral").run(RunRequest(token_ids=IDS, max_new_tokens=3)).tokens[24].id
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, first]}))
    trace = load(folder, device="cpu").run(RunRequest(token_ids=IDS, max_new_tokens=3))
    assert [token.id for token in trace.tokens[24:]] == [first]


def test_threads_on_a_model_with_layers_on_the_disk_give_its_numbers() -> None:
    folder = saved("qwen3_moe")
    requests = [
        RunRequest(token_ids=IDS[shift : shift + 16], interventions=changes)
        for shift in (0, 5)
        for changes in ((), (KnockOut(1, 2),))
    ]
    expected = [load(folder, device="cpu").run(request) for request in requests]
    limit = (folder / "model.safetensors").stat().st_size * 2 // 3
    offloaded = TransformersEngine(open_folder(folder, torch.device("cpu"), limit_bytes=limit), None, "it", folder)
    assert offloaded.offloaded
    with ThreadPoolExecutor(4) as pool:
        traces = list(pool.map(offloaded.run, requests * 3))
    for trace, alone in zip(traces, expected * 3, strict=True):
        for name, values in alone.data.data_vars.items():
            np.testing.assert_array_equal(trace.data[name].values, values.values)
    with pytest.raises(RequestError, match="each generated token would read all of them again"):
        offloaded.check(RunRequest(token_ids=IDS, max_new_tokens=1))


def with_tokenizer(content: dict[str, Any], folder: Path) -> TransformersEngine:
    shutil.copytree(saved("mixtral"), folder, dirs_exist_ok=True)
    engine = load(write(folder, content), device="cpu")
    assert isinstance(engine, TransformersEngine)
    return engine


def test_text_of_a_sentencepiece_vocabulary_begins_as_its_files_state(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": false, "bos_token": "<s>"}')
    engine = with_tokenizer(by_hand(), tmp_path)
    (note,) = [line for line in engine.notes if line.startswith("runs begin without <s>")]
    assert engine.run(RunRequest(prompt="a b")).origin["notes"] == [note]
    (tmp_path / "tokenizer_config.json").unlink()
    engine = TransformersEngine.load(tmp_path, "cpu")
    trace = engine.run(RunRequest(prompt="a b"))
    assert [(token.id, token.piece) for token in trace.tokens] == [(1, "<s>"), (7, "▁a"), (3, "▁"), (5, "b")]
    assert trace.text == b" a b"
    with pytest.raises(ValueError, match="no question can be put to this model; leave out chat, and it continues"):
        engine.encode(RunRequest(prompt="a b", chat=True))


def test_a_vocabulary_that_cannot_be_read_leaves_runs_by_ids(tmp_path: Path) -> None:
    engine = with_tokenizer({"model": {"type": "WordPiece", "vocab": {"a": 0}}}, tmp_path)
    reason = "its model is WordPiece, .*; give token ids instead of text"
    assert re.search(reason, engine.notes[-1])
    with pytest.raises(RequestError, match=reason):
        engine.encode(RunRequest(prompt="a"))
    assert [token.id for token in engine.run(RunRequest(token_ids=(5, 6))).tokens] == [5, 6]
