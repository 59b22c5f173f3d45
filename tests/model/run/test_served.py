"""Engines elsewhere, against a local server that speaks the documented protocol, and against servers that do not."""

import dataclasses
import socket
import threading
import time
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from model.run import remote, served
from model.run.interventions import KnockOut
from model.run.remote import Connection, RemoteError
from model.run.request import RequestError, RunRequest
from model.run.served import Served
from model.run.step import Step
from model.trace.trace import Trace, TraceError
from tests import engines
from tests.engines import NEW_IDS, PROMPT_IDS, TINY
from tests.served import MODELS, Answer, chunks, new_vllm, old_vllm, says, serving, sglang

IDS = engines.random_ids()
REQUEST = RunRequest(prompt="The wolf", max_new_tokens=3, temperature=0.5, seed=7)
ALL_IDS = [*PROMPT_IDS, *NEW_IDS]


def finish(steps: Generator[Step, None, Trace]) -> tuple[list[Step], Trace]:
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as finished:
            return seen, finished.value


def refused(routes: dict[str, Answer], **how: Any) -> str:
    with serving(routes) as (address, _), pytest.raises((RemoteError, TraceError)) as caught:
        finish(Served(Connection(address, **how), TINY).stream(REQUEST))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_vllm_by_chunk() -> None:
    with serving(new_vllm(IDS)) as (address, asked):
        engine = Served(Connection(f"{address}/v1/"), TINY)
        steps, trace = finish(engine.stream(REQUEST))
    assert engine.kind == "vllm"
    assert engine.arrival == served.BY_CHUNK
    assert np.array_equal(trace.data["expert_id"].values[:6], IDS)
    assert (trace.data["expert_id"].values[6] == -1).all()
    assert [token.id for token in trace.tokens] == ALL_IDS
    assert [token.generated for token in trace.tokens] == [False] * 4 + [True] * 3
    # A token comes with its row: the prompt first, then one by one, the last sampled one without.
    assert [(step.start, len(step.tokens)) for step in steps] == [(0, 4), (4, 1), (5, 1), (6, 1)]
    assert np.array_equal(np.concatenate([step.arrays["expert_id"] for step in steps])[:6], IDS)
    sent = dict(asked)["/inference/v1/generate"]
    assert sent["token_ids"] == PROMPT_IDS
    assert sent["stream"] is True
    assert sent["sampling_params"] | {"max_tokens": 3, "temperature": 0.5, "seed": 7} == sent["sampling_params"]
    assert dict(asked)["/tokenize"] == {"model": "deepseek", "prompt": "The wolf"}


def test_vllm_with_rows_on_the_last_chunk() -> None:
    with serving(new_vllm(IDS, by_chunk=False)) as (address, _):
        engine = Served(Connection(address), TINY)
        steps, trace = finish(engine.stream(REQUEST))
    assert engine.arrival == served.AT_THE_END
    assert [(step.start, len(step.tokens)) for step in steps] == [(0, 5), (5, 1), (6, 1)]
    assert (steps[0].arrays["expert_id"] == -1).all()
    assert np.array_equal(trace.data["expert_id"].values[:6], IDS)


def test_old_vllm_after_the_answer() -> None:
    with serving(old_vllm(IDS)) as (address, asked):
        engine = Served(Connection(address), TINY)
        (step,), trace = finish(engine.stream(REQUEST))
    assert engine.arrival == served.AFTER_THE_ANSWER
    assert np.array_equal(trace.data["expert_id"].values[:6], IDS)
    assert step.tokens == trace.tokens
    assert dict(asked)["/v1/completions"]["prompt"] == "The wolf"
    assert dict(asked)["/v1/completions"]["return_token_ids"] is True


def test_vllm_without_the_route_of_tokens_falls_back() -> None:
    routes = old_vllm(IDS) | {"/version": says({"version": "0.31.0"}), "/v1/completions": says(engines.vllm_npy(IDS))}
    routes["/tokenize"] = says({"tokens": PROMPT_IDS})
    with serving(routes) as (address, _):
        engine = Served(Connection(address), TINY)
        _, trace = finish(engine.stream(REQUEST))
    assert engine.arrival == served.AFTER_THE_ANSWER
    assert np.array_equal(trace.data["expert_id"].values[:6], IDS)


@pytest.mark.parametrize("native", [True, False])
def test_sglang_by_both_routes(native: bool) -> None:
    with serving(sglang(IDS, native)) as (address, asked):
        engine = Served(Connection(address), TINY)
        _, trace = finish(engine.stream(REQUEST))
    assert engine.kind == "sglang"
    assert engine.arrival == served.AFTER_THE_ANSWER
    assert np.array_equal(trace.data["expert_id"].values[:6], IDS)
    path, sent = asked[-1]
    assert path == ("/generate" if native else "/v1/completions")
    assert sent["return_routed_experts"] is True
    assert sent["text" if native else "prompt"] == "The wolf"


def test_top_k_is_sent_to_every_kind_where_it_cuts() -> None:
    for routes, path in ((old_vllm(IDS), "/v1/completions"), (sglang(IDS), "/generate")):
        with serving(routes) as (address, asked):
            for top_k in (0, 5):
                finish(Served(Connection(address), TINY).stream(dataclasses.replace(REQUEST, top_k=top_k)))
        plain, cut = (sent.get("sampling_params", sent) for at, sent in asked if at == path)
        assert "top_k" not in plain  # for SGLang -1, not 0, cuts nothing off
        assert cut["top_k"] == 5


def test_ids_of_the_models_own_tokenizer_are_sent() -> None:
    named = engines.Named("tiny", engines.CONFIG, encode=lambda text: PROMPT_IDS[1:], first_ids=(0,))
    for routes, path, key in (
        (new_vllm(IDS), "/inference/v1/generate", "token_ids"),
        (sglang(IDS), "/generate", "input_ids"),
    ):
        with serving(routes) as (address, asked):
            _, trace = finish(Served(Connection(address), named).stream(REQUEST))
        assert dict(asked)[path][key] == PROMPT_IDS
        assert [token.id for token in trace.tokens] == ALL_IDS


def test_a_stopped_run_keeps_what_came() -> None:
    cancel = threading.Event()
    with serving(new_vllm(IDS)) as (address, _):
        steps = Served(Connection(address), TINY).stream(REQUEST, cancel)
        next(steps)
        cancel.set()
        _, trace = finish(steps)
    assert trace.num_tokens == 5
    assert np.array_equal(trace.data["expert_id"].values[:4], IDS[:4])
    assert (trace.data["expert_id"].values[4] == -1).all()


def test_the_operator_may_say_which_engine_it_is() -> None:
    with serving({"/v1/models": says(MODELS)}) as (address, asked):
        assert Served(Connection(address), TINY, "sglang").kind == "sglang"
        assert [path for path, _ in asked] == ["/v1/models"]
        with pytest.raises(RemoteError, match="vllm or sglang"):
            Served(Connection(address), TINY, "ollama")
        with pytest.raises(RemoteError, match="MOE_LOUPE_ENGINE_KIND"):
            Served(Connection(address), TINY)


def test_what_no_engine_elsewhere_does_is_refused() -> None:
    with serving(sglang(IDS)) as (address, _):
        engine = Served(Connection(address), TINY)
        with pytest.raises(RequestError, match="interventions"):
            next(engine.stream(RunRequest(prompt="a", max_new_tokens=1, interventions=(KnockOut(1, 2),))))
        with pytest.raises(RequestError, match="at least one token"):
            next(engine.stream(RunRequest(prompt="a")))
        with pytest.raises(RequestError, match="not as a question"):
            next(engine.stream(RunRequest(prompt="a", max_new_tokens=1, chat=True)))
        with pytest.raises(RequestError, match="not asked for drafts"):
            next(engine.stream(RunRequest(prompt="a", max_new_tokens=1, verify_drafts=True)))


@pytest.mark.parametrize(
    "address",
    ["", "localhost:8000", "file:///etc/passwd", "ftp://host/", "http://", "http://a:b@host/", "http://host/?x=1",
     "http://host:99999/", "http://[::1", "javascript:alert(1)", "http://host/#a", "http://ho st\n/"],
)  # fmt: skip
def test_addresses_of_no_http_server_are_refused(address: str) -> None:
    with pytest.raises(RemoteError, match="address"):
        Connection(address)


def test_a_dead_server_is_said() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # held without listening, so that no other process can take the port
        with pytest.raises(RemoteError, match="cannot be reached"):
            Served(Connection(f"http://127.0.0.1:{deaf.getsockname()[1]}"), TINY)


def test_a_silent_server_is_left() -> None:
    def sleep(handler: Any, body: Any) -> None:
        time.sleep(1.0)
        handler.send_json({})

    assert "did not answer within 0 s" in refused({"/version": sleep, "/get_model_info": sleep}, seconds=0.2)
    slow = new_vllm(IDS, wait=0.6)
    assert "did not answer within 0 s" in refused(slow, silence=0.2)
    assert "took too long" in refused(new_vllm(IDS, wait=0.6), seconds=1.2)


def test_broken_answers_are_refused() -> None:
    routes = new_vllm(IDS)
    generate = "/inference/v1/generate"
    assert "something else than JSON" in refused(
        {"/get_model_info": lambda handler, body: handler.send_bytes(b"<html>")}
        | sglang(IDS)
        | {"/v1/models": lambda handler, body: handler.send_bytes(b"<html>")}
    )
    assert "broke off" in refused(new_vllm(IDS, done=False))
    assert "something else than JSON" in refused(
        routes | {generate: lambda handler, body: handler.send_bytes(b"data: {\n\n")}
    )
    assert "the engine stopped: out of memory" in refused(
        routes | {generate: lambda handler, body: handler.send_events([{"error": {"message": "out of\nmemory"}}])}
    )
    assert "refused (400): bad seed" in refused(routes | {generate: says({"error": {"message": "bad\nseed"}}, 400)})
    assert "refused (503): ending" in refused(routes | {generate: says({"error": "ending"}, 503)})
    assert "status 500" in refused(routes | {generate: lambda handler, body: handler.send_bytes(b"oops", 500)})
    bare = [
        event | {"choices": [choice | {"routed_experts": None} for choice in event["choices"]]}
        for event in chunks(IDS, True)
    ]
    assert "--enable-return-routed-experts" in refused(
        routes | {generate: lambda handler, body: handler.send_events(bare)}
    )
    fewer = chunks(IDS, True)
    fewer[1]["choices"][0]["routed_experts"] = None
    assert "5 rows of routed_experts, but 6" in refused(
        routes | {generate: lambda handler, body: handler.send_events(fewer)}
    )
    wrong = chunks(np.zeros_like(IDS), True)
    assert "twice" in refused(routes | {generate: lambda handler, body: handler.send_events(wrong)})
    assert "no ids for the prompt" in refused(routes | {"/tokenize": says({"tokens": []})})
    assert "list of token ids" in refused(routes | {"/tokenize": says({"tokens": ["a"]})})
    assert "has no routed_experts" in refused(sglang(IDS) | {"/generate": says({"text": "", "meta_info": {}})})


def test_too_much_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 100)
    assert "larger than" in refused(sglang(IDS))
    assert "larger than" in refused(new_vllm(IDS))


def test_redirects_to_other_hosts_are_refused_and_others_followed() -> None:
    with serving(sglang(IDS)) as (elsewhere, asked):

        def away(handler: Any, body: Any) -> None:
            handler.send_bytes(b"", 302, Location=f"{elsewhere}/v1/models")

        assert "another host" in refused(sglang(IDS) | {"/v1/models": away})
        assert asked == []

    def within(handler: Any, body: Any) -> None:
        handler.send_bytes(b"", 302, Location="/models")

    with serving(sglang(IDS) | {"/v1/models": within, "/models": says(MODELS)}) as (address, _):
        assert Served(Connection(address), TINY).model == "deepseek"


def test_no_proxy_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(sglang(IDS)) as (address, _):
        assert Served(Connection(address), TINY).kind == "sglang"
