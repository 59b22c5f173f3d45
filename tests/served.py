"""A local server with the part of vLLM's and SGLang's protocols that returns a text and its routing."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests import engines
from tests.engines import NEW_IDS, PROMPT_IDS

Answer = Callable[["Handler", dict[str, Any]], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the routes of its server, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    routes: dict[str, Answer]
    asked: list[tuple[str, Any]]

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: dict[str, Any]) -> None:
        self.asked.append((self.path, body))
        route = self.routes.get(self.path)
        self.send_json({"error": {"message": "Not Found"}}, 404) if route is None else route(self, body)

    def send_json(self, value: Any, status: int = 200) -> None:
        self.send_bytes(json.dumps(value).encode(), status)

    def send_bytes(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def send_events(self, events: list[Any], done: bool = True, wait: float = 0.0) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
            time.sleep(wait)
        if done:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(routes: dict[str, Answer]) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """A server's address, and the list of what it is asked, (path, body)."""
    asked: list[tuple[str, Any]] = []
    handler = type("Bound", (Handler,), {"routes": routes, "asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False  # closing waits for answers that are being given
    server.handle_error = lambda request, client_address: None  # a client may leave in the middle of one
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def says(value: Any, status: int = 200) -> Answer:
    return lambda handler, body: handler.send_json(value, status)


MODELS = {"object": "list", "data": [{"id": "deepseek"}]}


def chunks(ids: np.ndarray, by_chunk: bool) -> list[Any]:
    """vLLM's events: a token each; rows with every token but the last one's own, or all of them with the last."""
    events, start = [], 0
    for place, token in enumerate(NEW_IDS):
        end = len(PROMPT_IDS) + place
        rows = ids[start:end] if by_chunk else ids if place == len(NEW_IDS) - 1 else None
        start = end
        sent = None if rows is None else engines.coded(engines.npy(rows.astype("uint8")))
        events.append({"request_id": "1", "choices": [{"index": 0, "token_ids": [token], "routed_experts": sent}]})
    return [*events, {"request_id": "1", "choices": [], "usage": engines.usage()}]


def new_vllm(ids: np.ndarray, by_chunk: bool = True, **how: Any) -> dict[str, Answer]:
    """vLLM from 0.22 on."""
    return {
        "/version": says({"version": "0.23.1"}),
        "/v1/models": says(MODELS),
        "/tokenize": says({"tokens": PROMPT_IDS, "count": len(PROMPT_IDS), "max_model_len": 4096}),
        "/inference/v1/generate": lambda handler, body: handler.send_events(chunks(ids, by_chunk), **how),
    }


def old_vllm(ids: np.ndarray) -> dict[str, Answer]:
    """vLLM 0.21: lists, after the answer."""
    return {
        "/version": says({"version": "0.21.0"}),
        "/v1/models": says(MODELS),
        "/v1/completions": says(engines.vllm_lists(ids)),
    }


def sglang(ids: np.ndarray, native: bool = True) -> dict[str, Answer]:
    """SGLang, or a gateway before it that has OpenAI's routes only."""
    route = (
        {"/generate": says(engines.sglang_generate(ids))}
        if native
        else {"/v1/completions": says(engines.sglang_openai(ids))}
    )
    return {"/get_model_info": says({"model_path": "deepseek"}), "/v1/models": says(MODELS)} | route
