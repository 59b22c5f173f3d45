"""Detect the format of a file, and read it."""

from collections.abc import Mapping
from typing import Any

from model.trace import file
from model.trace.imports import (
    AUTO,
    FORMATS,
    LLAMA_CPP,
    LOGITS,
    OURS,
    RECORDER,
    SGLANG,
    VLLM,
    llama_cpp,
    router_logits,
    sglang,
    sglang_dump,
    vllm,
)
from model.trace.imports.building import Named
from model.trace.imports.reading import NPY, PICKLES, parse_json
from model.trace.trace import Trace, TraceError

_UNKNOWN = f"the file has an unknown format; known are {', '.join(FORMATS[1:])}"


def detect(content: bytes) -> str:
    """Return the format of a file, detected from its content.

    Raises:
        TraceError: the file is pickled, or its format is unknown.
    """
    _refuse_pickles(content)
    if content.startswith(NPY):
        return VLLM
    if len(content) > 8 and content[8:9] == b"{":
        return OURS if _is_ours(content) else LOGITS
    if llama_cpp.is_csv(content):
        return LLAMA_CPP
    return _of_json(parse_json(content)) if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") else _give_up()


def read(
    content: bytes, form: str = AUTO, named: Named | None = None, request: bytes | None = None, choice: int = 0
) -> Trace:
    """Read a file as a trace.

    Args:
        content: the file.
        form: one of `FORMATS`.
        named: the model that the file belongs to; our own traces and router logits need none.
        request: the JSON that was sent to the engine, which holds the prompt; None if unknown. The file itself may
            also be an object of `request` and `response`.
        choice: index of the answer or run, if the file holds several.

    Raises:
        TraceError: the file cannot be read, or does not fit the model; the message says what to do.
    """
    form = detect(content) if form == AUTO else form
    _refuse_pickles(content)
    sent = None if request is None else parse_json(request)
    if form == OURS:
        return file.loads(content)
    if form == LOGITS:
        return router_logits.read(content, named, sent, choice)
    if named is None:
        raise TraceError(
            f"name the model that a file of the format {form} belongs to: it does not say which layers it has"
        )
    if form == LLAMA_CPP:
        return llama_cpp.read(content, named)
    if form == VLLM and content.startswith(NPY):
        return vllm.read_npy(content, named)
    value, sent = _parts(parse_json(content), sent)
    if form == RECORDER:
        return sglang_dump.read(value, named, choice)
    return (sglang if form == SGLANG else vllm).read(value, named, sent, choice)


def _refuse_pickles(content: bytes) -> None:
    if not content:
        raise TraceError("the file is empty")
    if content.startswith(PICKLES):
        raise TraceError(f"this is a pickled file, which could run code when read; {sglang_dump.HINT}")


def _is_ours(content: bytes) -> bool:
    return f'"{file.FORMAT}"'.encode() in content[: 8 + min(int.from_bytes(content[:8], "little"), len(content))]


def _parts(value: Any, request: Any) -> tuple[Any, Any]:
    """Return the response and the request; a file can hold both."""
    if isinstance(value, Mapping) and "response" in value:
        return value["response"], value.get("request") if request is None else request
    return value, request


def _of_json(value: Any) -> str:
    response, _ = _parts(value, None)
    checks = {RECORDER: sglang_dump.is_dump, SGLANG: sglang.is_response, VLLM: vllm.is_response}
    return next((form for form, holds in checks.items() if holds(response)), "") or _give_up()


def _give_up() -> str:
    raise TraceError(_UNKNOWN)
