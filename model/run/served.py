"""Runs requests on a model that vLLM or SGLang serves, and returns text and routing as a trace.

- vLLM from 0.22 on: /inference/v1/generate streams tokens in chunks, with their `routed_experts` as soon as the engine
  has them (PR #44638).
- Earlier versions of vLLM, and servers without that route: /v1/completions sends text and routing after the last token.
- SGLang: /generate, or behind a gateway /v1/completions, sends both after the last token.

`model.trace.imports` reads these formats.
"""

import re
import threading
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from model.run.abilities import Abilities
from model.run.remote import Connection, NotThereError, RemoteError
from model.run.request import RequestError, RunRequest
from model.run.step import Progress, Step
from model.trace.imports import reading, sglang, vllm
from model.trace.imports.building import UNKNOWN, Named, Words, labelled, placed, traced
from model.trace.trace import Trace

KINDS = ("vllm", "sglang")
BY_CHUNK = "The engine sent the routing with the tokens, chunk by chunk"
AT_THE_END = "The engine sent the tokens as they came, and their routing at the end"
AFTER_THE_ANSWER = "The engine sent text and routing in one response, after the last token"
_STREAMS_FROM = (0, 22)


class Served:
    """An engine on another server; it satisfies `EngineProtocol`.

    Attributes:
        shape: the axes of the served model's router.
        kind: one of `KINDS`.
        model: the name of the model on the server.
        version: the server's version, as far as it says so; () if not.
        context: largest number of tokens of a run on the server; None if it does not say.
        arrival: sentence on when the routing of the last run arrived: `BY_CHUNK`, `AT_THE_END` or `AFTER_THE_ANSWER`.
    """

    abilities = Abilities(captures=frozenset(), interventions=frozenset(), heads_later=False)

    def __init__(self, connection: Connection, named: Named, kind: str | None = None) -> None:
        """Detect the server's kind, version and model.

        Args:
            connection: a connection to the server.
            named: the model that the server serves.
            kind: "vllm" or "sglang"; None: detect the kind.

        Raises:
            RemoteError: the server does not answer, or is neither vLLM nor SGLang.
        """
        if kind is not None and kind not in KINDS:
            raise RemoteError(f"the kind of engine must be {' or '.join(KINDS)}, not {kind!r:.40}")
        self._connection, self.named, self.shape, self.arrival = connection, named, named.shape, ""
        self.version: tuple[int, ...] = ()
        self.context: int | None = None
        self.kind = kind or self._detect()
        if self.kind == "vllm":
            self.version = self._read_version()
        self.model = named.name
        self._read_model()

    def _detect(self) -> str:
        for path, kind in (("/get_model_info", "sglang"), ("/version", "vllm")):
            try:
                self._connection.get(path)
            except NotThereError:
                continue
            return kind
        raise RemoteError("the server is neither vLLM nor SGLang, or does not say so; set MOE_LOUPE_ENGINE_KIND")

    def _read_version(self) -> tuple[int, ...]:
        try:
            response = self._connection.get("/version")
        except NotThereError:
            return ()
        numbers = re.match(r"(\d{1,4})\.(\d{1,4})", str(response.get("version") if isinstance(response, dict) else ""))
        return tuple(map(int, numbers.groups())) if numbers else ()

    def _read_model(self) -> None:
        """Take the name of the model and its context from the server, as far as it says them."""
        try:
            models = reading.member(self._connection.get("/v1/models"), "data", list, "/v1/models")
        except NotThereError:
            return
        first = models[0] if models and isinstance(models[0], dict) else {}
        if isinstance(first.get("id"), str):
            self.model = first["id"]
        if type(first.get("max_model_len")) is int and first["max_model_len"] > 0:
            self.context = first["max_model_len"]

    def stream(
        self,
        request: RunRequest,
        cancel: threading.Event | None = None,
        on_layer: Callable[[Progress], None] = lambda progress: None,
    ) -> Generator[Step, None, Trace]:
        """Run a request; yield its steps, several if the server sends tokens by chunk, and return the trace.

        The server gets temperature, top-p, top-k and seed. It accepts no interventions and no chat turn. It does not
        report finished layers, so `on_layer` is never called.

        Raises:
            RequestError: the request has an intervention, a chat turn or drafts to verify, or generates no token.
            RemoteError, TraceError: the engine did not answer as documented.
        """
        if request.interventions:
            raise RequestError("an engine elsewhere takes no interventions")
        if request.chat:
            raise RequestError("an engine elsewhere is sent the text as it is, not as a question; leave out chat")
        if request.verify_drafts:
            raise RequestError("an engine elsewhere is not asked for drafts; leave out the verification")
        if request.max_new_tokens < 1:
            raise RequestError("an engine elsewhere generates at least one token")
        if self.kind == "vllm" and (not self.version or self.version >= _STREAMS_FROM):
            try:
                return (yield from self._by_chunk(request, cancel))
            except NotThereError:
                pass
        answer, sent = self._ask(request)
        trace = (vllm if self.kind == "vllm" else sglang).read(answer, self.named, sent)
        self.arrival = AFTER_THE_ANSWER
        arrays = {name: trace.data[name].values for name in ("token_id", "expert_id")}
        yield Step(0, trace.tokens, trace.text, arrays)
        return trace

    # --- after the answer --------------------------------------------------------------------------------------------

    def _ask(self, request: RunRequest) -> tuple[Any, dict[str, Any]]:
        """Return the answer to a request, and the request as sent."""
        ids, prompt = self._local_ids(request), request.prompt
        given, cut = prompt if ids is None else ids, {"top_k": request.top_k} if request.top_k else {}
        completion = {
            "model": self.model, "prompt": given, "max_tokens": request.max_new_tokens,
            "temperature": request.temperature, "top_p": request.top_p, "seed": request.seed,
        } | cut  # fmt: skip
        if self.kind == "vllm":
            return self._connection.post("/v1/completions", completion | {"return_token_ids": True}), completion
        sampling = {
            "max_new_tokens": request.max_new_tokens, "temperature": request.temperature, "top_p": request.top_p,
            "sampling_seed": request.seed,
        } | cut  # fmt: skip
        sent = {"text": prompt} if ids is None else {"input_ids": ids}
        asking = sent | {"sampling_params": sampling, "return_routed_experts": True}
        try:
            return self._connection.post("/generate", asking), asking
        except NotThereError:
            asking = completion | {"return_routed_experts": True}
            return self._connection.post("/v1/completions", asking), asking

    def _local_ids(self, request: RunRequest) -> list[int] | None:
        """Return the ids of the prompt from the local tokenizer; None without a local tokenizer."""
        if request.token_ids is not None:
            return list(request.token_ids)
        if self.named.encode is None or request.prompt is None:
            return None
        return [*self.named.first_ids, *self.named.encode(request.prompt)]

    # --- by chunk ----------------------------------------------------------------------------------------------------

    def _by_chunk(self, request: RunRequest, cancel: threading.Event | None) -> Generator[Step, None, Trace]:
        """Yield the steps of vLLM's stream, and return the trace.

        Until the first experts arrive, tokens are yielded at once, without experts. From then on, a token is yielded
        when its experts have arrived; the last step has the tokens whose experts did not arrive.
        """
        ids = self._local_ids(request) or self._remote_ids(request)
        sampling = {
            "max_tokens": request.max_new_tokens, "temperature": request.temperature, "top_p": request.top_p,
            "top_k": request.top_k, "seed": request.seed,
        }  # fmt: skip
        body = {"model": self.model, "token_ids": ids, "sampling_params": sampling, "stream": True}
        new: list[int] = []
        rows = np.zeros((0, len(self.shape.moe_layers), self.shape.top_k), np.int64)
        shown, chunks = 0, 0
        for event in self._connection.events("/inference/v1/generate", body, cancel):
            sent, more = _chunk(event)
            new += more
            if sent is not None:
                new_rows = vllm.fitting(reading.from_npy(reading.from_base64(sent, vllm.FIELD), vllm.FIELD), self.named)
                whole = len(new_rows) >= len(ids) + len(new) - 1
                rows, chunks = new_rows if whole else np.concatenate([rows, new_rows]), chunks + 1
            if not more:
                continue
            reached = min(len(rows), len(ids) + len(new)) if chunks else len(ids) + len(new)
            if reached > shown:
                yield self._step(ids, new, rows, shown, reached)
                shown = reached
        if cancel is None or not cancel.is_set():
            self._check(rows, len(ids) + len(new) - 1)
        self.arrival = BY_CHUNK if chunks > 1 else AT_THE_END
        if shown < len(ids) + len(new):
            yield self._step(ids, new, rows, shown, len(ids) + len(new))
        words = Words(prompt=request.prompt, prompt_ids=ids, new_ids=new, num_prompt=len(ids), num_new=len(new))
        expert_id = placed(rows, 0, len(ids) + len(new), vllm.FIELD)
        return traced(self.named, words, expert_id, "vLLM", "vLLM routed_experts (stream)", vllm.MISSING)

    def _remote_ids(self, request: RunRequest) -> list[int]:
        """Return the ids of the prompt from the server's tokenizer."""
        response = self._connection.post("/tokenize", {"model": self.model, "prompt": request.prompt})
        ids = reading.token_ids(reading.member(response, "tokens", list, "/tokenize"), "tokens")
        if not ids:
            raise RemoteError("the engine's /tokenize gave no ids for the prompt")
        return ids

    def _check(self, rows: np.ndarray, expected: int) -> None:
        if not len(rows):
            raise RemoteError("the engine sent no routed_experts; start vLLM with --enable-return-routed-experts")
        if len(rows) != expected:
            raise RemoteError(f"the engine sent {len(rows)} rows of routed_experts, but {expected} tokens need one")

    def _step(self, ids: list[int], new: list[int], rows: np.ndarray, first: int, last: int) -> Step:
        """Return the step with the tokens from `first` up to but not including `last`."""
        known = [*ids, *new][:last]
        words = Words(prompt_ids=known[: len(ids)], new_ids=known[len(ids) :], num_prompt=min(last, len(ids)))
        tokens, text = labelled(words, self.named, last)
        expert_id = np.full((last, *rows.shape[1:]), UNKNOWN, np.int16)
        expert_id[: min(last, len(rows))] = rows[:last]
        arrays = {"token_id": np.array(known[first:], np.int32), "expert_id": expert_id[first:]}
        return Step(first, tokens[first:], text, arrays)


def _chunk(event: Any) -> tuple[str | None, list[int]]:
    """Return the encoded rows of experts in an event (None: no rows), and its new token ids."""
    if isinstance(event, dict) and "error" in event:
        message = event["error"].get("message") if isinstance(event["error"], dict) else event["error"]
        raise RemoteError(f"the engine stopped: {' '.join(str(message).split()):.200}")
    choices = reading.member(event, "choices", list, "the event") or []
    if not choices:  # counts at the end
        return None, []
    sent = reading.member(choices[0], vllm.FIELD, str, "the choice")
    return sent, reading.token_ids(choices[0].get("token_ids"), "token_ids") or []
