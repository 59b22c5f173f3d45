"""Sweeps of an engine elsewhere, against a local server whose experts are a function of the tokens that it is sent."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.atlas.folder import open_sweep
from model.atlas.manifest import Manifest
from model.checkpoint.embedded import find_model
from model.checkpoint.tokenizer import Tokenizer
from model.sweep import served
from model.sweep.run import sweep
from model.sweep.settings import Settings, SweepError
from tests import engines
from tests.served import MODELS, Answer, Handler, says, serving

TEXTS = ["The wolf ran.", "A fox, 17 hens; and\n a dog. " * 12, "мир", "x = [1, 2]", "The wolf ran home. " * 3]


def experts(ids: list[int]) -> np.ndarray:
    """The experts of these tokens, [token, layer, slot], in no order."""
    first = (np.array(ids)[:, None] * 31 + np.array([3, 5, 7, 11]) * 17) % 16
    return (first[..., None] + np.array([0, 9, 4, 2])) % 16


class FakeEngine:
    """Answers as vLLM does for token ids, or as SGLang; counts the requests that it handles at a time.

    Attributes:
        refuses: a request with this token is refused.
        cached: tokens at the start whose rows vLLM leaves out.
        dies_after: requests that are answered before every other fails.
    """

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.total = threading.Lock(), 0, 0, 0
        self.refuses, self.cached, self.dies_after = -1, 0, 1 << 30
        self.lost = False

    def routes(self, kind: str) -> dict[str, Answer]:
        if kind == "sglang":
            return {"/get_model_info": says({}), "/v1/models": says(MODELS), "/generate": self.sglang}
        models = {"data": [{"id": "deepseek", "max_model_len": 65}]}
        return {"/version": says({"version": "0.21.0"}), "/v1/models": says(models), "/v1/completions": self.vllm}

    def sglang(self, handler: Handler, body: dict[str, Any]) -> None:
        ids = body["input_ids"]
        meta = {"prompt_tokens": len(ids), "completion_tokens": 1, "routed_experts": engines.flat(experts(ids))}
        self.answer(handler, ids, {"text": "", "output_ids": [5], "meta_info": meta})

    def vllm(self, handler: Handler, body: dict[str, Any]) -> None:
        ids = body["prompt"]
        cached = self.cached if len(ids) > self.cached else 0
        rows = engines.coded(engines.npy(experts(ids)[cached:].astype("uint8")))
        choice = {"index": 0, "text": "", "token_ids": [5], "prompt_token_ids": ids, "routed_experts": rows}
        usage = engines.usage(len(ids), 1) | {"prompt_tokens_details": {"cached_tokens": cached}}
        if self.lost:
            del choice["routed_experts"]
        self.answer(handler, ids, {"choices": [choice], "usage": usage})

    def answer(self, handler: Handler, ids: list[int], value: Any) -> None:
        with self.lock:
            self.now, self.total = self.now + 1, self.total + 1
            self.most = max(self.most, self.now)
            dead = self.total > self.dies_after
        time.sleep(0.02)
        with self.lock:
            self.now -= 1
        if dead:
            handler.send_json({"error": "shutting down"}, 503)
        elif self.refuses in ids:
            handler.send_json({"error": {"message": "no such\ntoken"}}, 400)
        else:
            handler.send_json(value)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and a configuration, without weights."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copy(find_model("mini-v3") / "tokenizer.json", folder)
    (folder / "config.json").write_text(json.dumps(engines.CONFIG | {"vocab_size": 8192}))
    return folder


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_WAITS", (0.0, 0.0))


@pytest.fixture
def texts(tmp_path: Path) -> str:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    return str(path)


def swept(model: Path, texts: str, out: Path, address: str) -> Manifest:
    settings = Settings(str(model), (texts,), str(out), shard_tokens=100, batch_tokens=400, engine=address)
    return sweep(settings)


def token_ids(model: Path) -> list[list[int]]:
    tokenizer = Tokenizer.load(model)
    return [[*tokenizer.first_ids, *tokenizer.encode(text)] for text in TEXTS]


def counts(ids: list[int]) -> np.ndarray:
    """Selections of each expert in a document whose decisions do not depend on its windows, [layer, expert]."""
    return (experts(ids)[..., None] == np.arange(16)).sum((0, 2))


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_counts_are_those_of_the_engine(model: Path, texts: str, tmp_path: Path, kind: str) -> None:
    engine = FakeEngine()
    with serving(engine.routes(kind)) as (address, asked):
        manifest = swept(model, texts, tmp_path / "out", address)
    found = open_sweep(tmp_path / "out")
    documents = token_ids(model)
    assert found.counts_DLE.tolist() == [counts(ids).tolist() for ids in documents]
    assert found.layers == (1, 2, 3, 4)
    assert engine.most > 1  # several requests at a time
    assert manifest.failed == ()
    assert manifest.invariance is not None
    assert manifest.invariance["different"] == 0
    assert set(manifest.capture) == {"documents", "pairs", "positions", "tokens", "transitions"} - {"documents"}
    assert manifest.request["source"] == {"vllm": "vllm 0.21", "sglang": "sglang"}[kind]
    assert "weight_sum" not in found.cells  # unknown, not 0
    sent = [body.get("prompt") or body.get("input_ids") for path, body in asked if body]
    assert all(ids[0] == documents[0][0] for ids in sent)
    assert max(map(len, sent)) == (64 if kind == "vllm" else len(documents[1]))  # vLLM states a context of 65


def test_tokens_without_a_row_are_counted_as_refused(model: Path, texts: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.cached = 3
    done = []
    with serving(engine.routes("vllm")) as (address, _):
        settings = Settings(str(model), (texts,), str(tmp_path / "out"), engine=address)
        sweep(settings, on_progress=done.append)
    found, documents = open_sweep(tmp_path / "out"), token_ids(model)
    short = [ids[3:] if len(ids) > 3 else ids for ids in documents]
    assert done[-1].refused == sum(map(len, documents)) - sum(map(len, short))
    assert found.documents["tokens"].tolist() == list(map(len, short))
    assert found.counts_DLE[0].tolist() == counts(short[0]).tolist()


def test_a_refused_document_is_listed_and_the_others_are_asked_once(model: Path, texts: str, tmp_path: Path) -> None:
    engine, documents = FakeEngine(), token_ids(model)
    engine.refuses = next(token for token in documents[3] if all(token not in documents[n] for n in (0, 1, 2, 4)))
    with serving(engine.routes("sglang")) as (address, asked):
        settings = Settings(str(model), (texts,), str(tmp_path / "out"), batch_tokens=10_000, engine=address)
        manifest = sweep(settings)
    assert [(entry["document"], entry["error"]) for entry in manifest.failed] == [
        (3, "the engine refused (400): no such token")
    ]
    sent = [tuple(body["input_ids"]) for _, body in asked if body]
    assert sent.count(tuple(documents[3])) == 2  # with the others, and alone
    assert sent.count(tuple(documents[0])) == 2  # once, and once more for the check


def test_a_dead_engine_ends_the_sweep_and_the_same_command_goes_on(model: Path, texts: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.dies_after = 4
    with serving(engine.routes("sglang")) as (address, _):
        with pytest.raises(SweepError, match=r"shutting down; [12] of 3 shards are finished and kept") as caught:
            swept(model, texts, tmp_path / "out", address)
        assert address in str(caught.value)
        engine.dies_after = 1 << 30
        swept(model, texts, tmp_path / "out", address)
        swept(model, texts, tmp_path / "whole", address)
    for table in ("documents", "counts", "strata"):
        name = f"{table}.parquet"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_engine_that_sends_no_experts_is_refused_at_once(model: Path, texts: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.lost = True
    with serving(engine.routes("vllm")) as (address, asked):
        with pytest.raises(SweepError, match="start vLLM with --enable-return-routed-experts"):
            swept(model, texts, tmp_path / "out", address)
        assert len([path for path, _ in asked if path == "/v1/completions"]) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_tokenizer_is_refused(model: Path, texts: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(engines.CONFIG))
    with serving(FakeEngine().routes("vllm")) as (address, _), pytest.raises(SweepError, match="no tokenizer.json"):
        swept(tmp_path, texts, tmp_path / "out", address)
