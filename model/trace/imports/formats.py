"""Detect the format of a file, and read it."""

from collections.abc import Mapping
from typing import Any

from model.trace import file
from model.trace.imports import (
    AUTO,
    COLIBRI,
    FORMATS,
    LLAMA_CPP,
    LOGITS,
    OURS,
    RECORDER,
    SGLANG,
    VLLM,
    colibri,
    llama_cpp,
    router_logits,
    sglang,
    sglang_dump,
    vllm,
)
from model.trace.imports.building import Named
from model.trace.imports.reading import NPY, parse_json
from model.trace.imports.wrong_files import refuse_wrong_files
from model.trace.trace import Trace, TraceError

_UNKNOWN = f"the file has an unknown format; known are {', '.join(FORMATS[1:])}"


def detect(content: bytes) -> str:
    """Return the format of a file, detected from its content.

    Raises:
        TraceError: the file is of a kind that cannot be read, or its format is unknown.
    """
    return _detect(content)[0]


def _detect(content: bytes) -> tuple[str, Any]:
    """Return the format, and the parsed content if it is JSON, else None."""
    refuse_wrong_files(content)
    if content.startswith(NPY):
        return VLLM, None
    if len(content) > 8 and content[8:9] == b"{":
        return (OURS if _is_ours(content) else LOGITS), None
    if llama_cpp.is_csv(content):
        return LLAMA_CPP, None
    if colibri.is_routes(content):
        return COLIBRI, None
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
        raise TraceError(_UNKNOWN)
    value = parse_json(content)
    return _of_json(value), value


def read(
    content: bytes, form: str = AUTO, named: Named | None = None, request: bytes | None = None, choice: int = 0
) -> Trace:
    """Return the trace in a file of any format.

    Args:
        content: bytes of the file.
        form: one of `FORMATS`; `AUTO` detects the format.
        named: the model that was run; None is allowed for this project's traces and for router logits.
        request: the JSON that was sent to the engine, which holds the prompt; None if unknown, or if the file itself
            is an object with the keys `request` and `response`.
        choice: index of the answer or run, if the file holds several.

    Raises:
        TraceError: the file cannot be read, or does not fit the model; the message says what to do.
    """
    refuse_wrong_files(content)
    form, value = _detect(content) if form == AUTO else (form, None)
    sent = None if request is None else parse_json(request, "the request")
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
    if form == COLIBRI:
        return colibri.read_routes(content, named)
    if form == VLLM and content.startswith(NPY):
        return vllm.read_npy(content, named)
    value, sent = _parts(parse_json(content) if value is None else value, sent)
    if form == RECORDER:
        return sglang_dump.read(value, named, choice)
    return (sglang if form == SGLANG else vllm).read(value, named, sent, choice)


def _is_ours(content: bytes) -> bool:
    return f'"{file.FORMAT}"'.encode() in content[: 8 + min(int.from_bytes(content[:8], "little"), len(content))]


def _parts(value: Any, request: Any) -> tuple[Any, Any]:
    """Return the response and the request; an object with a `response` may hold both. `request` takes precedence."""
    if isinstance(value, Mapping) and "response" in value:
        return value["response"], value.get("request") if request is None else request
    return value, request


def _of_json(value: Any) -> str:
    response, _ = _parts(value, None)
    checks = {RECORDER: sglang_dump.is_dump, SGLANG: sglang.is_response, VLLM: vllm.is_response}
    form = next((form for form, holds in checks.items() if holds(response)), "")
    if form:
        return form
    if isinstance(response, list) and any(vllm.is_answer(entry) for entry in response):
        raise TraceError(f"the file is a list of {len(response)} answers; save one of them to a file by itself")
    if isinstance(response, Mapping) and "error" in response and "choices" not in response:
        raise TraceError("the answer is an error of the engine, and holds no routing")
    if vllm.is_answer(response):
        raise TraceError(vllm.NOT_SENT)
    raise TraceError(_UNKNOWN)
