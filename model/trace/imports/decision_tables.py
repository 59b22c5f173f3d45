"""Read decision tables: the routing and the log-probabilities of many documents, from an engine or a trainer.

Two forms are read:

- JSON lines, a document per line. A line is an answer of vLLM or SGLang, an object with `request` and `response`, or an
  object with `token_ids` and `routed_experts`; `_plain` describes that one.
- A batch of verl in a safetensors file (`verl.py`).

Refused, never guessed: rows of filler, a layer that was not recorded, ids that are no experts or appear twice in a row,
rows that do not fit the tokens, and two versions of the weights in one answer.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from model.trace.imports import formats, placement, verl
from model.trace.imports.building import Named
from model.trace.imports.reading import from_base64, from_lists, from_npy, member, number_of, parse_json, token_ids
from model.trace.imports.table_rows import FIELD, Document, Logprobs, aligned, built
from model.trace.trace import Trace, TraceError


def is_table(content: bytes) -> bool:
    """Return whether a file looks like a decision table; traces of this project do not."""
    if content[8:9] == b"{":
        return b'"routed_experts"' in content[: 8 + int.from_bytes(content[:8], "little")]
    return content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"


def read(content: bytes, named: Named | None = None) -> list[Document]:
    """Return the documents of a table.

    Args:
        content: bytes of the file.
        named: the model that was run. It tells dense layers from layers that were not recorded; answers of engines
            need it. None: the table holds MoE layers only.

    Raises:
        TraceError: a document cannot be read; the message names its line.
    """
    documents = verl.read(content, named) if content[8:9] == b"{" else _of_lines(content, named)
    if not documents:
        raise TraceError("the table holds no document")
    documents = [each if each.name else each._replace(name=str(number)) for number, each in enumerate(documents, 1)]
    names = Counter(document.name for document in documents)
    if len(names) < len(documents):
        raise TraceError(f"the table has two documents of the id {names.most_common(1)[0][0]:.60}")
    return documents


# --- JSON lines -------------------------------------------------------------------------------------------------------


def _of_lines(content: bytes, named: Named | None) -> list[Document]:
    documents = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            try:
                documents.append(_of_line(line, named))
            except TraceError as error:
                raise TraceError(f"line {number}: {error}") from None
    return documents


def _of_line(line: bytes, named: Named | None) -> Document:
    value = parse_json(line, "the line")
    if not isinstance(value, dict):
        raise TraceError("it is not a JSON object")
    own = "response" in value or ("token_ids" in value and FIELD in value)  # the id of an answer is new in every run
    name = str(value.get("id") or "")[:200] if own else ""
    if "token_ids" in value and FIELD in value:
        placement.check_weights(value)
        return Document(name, _plain(value, named))
    if named is None:
        raise TraceError("name the model (--model) that an engine's answer belongs to: it says which layers are dense")
    answer, request = (value["response"], value.get("request")) if "response" in value else (value, None)
    first = answer[0] if isinstance(answer, list) and answer else answer
    choices = first.get("choices") if isinstance(first, Mapping) else None
    one = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else first
    logprobs = _engine_logprobs(one)
    return Document(name, _with_logprobs(formats.read(line, named=named), logprobs, _temperature(request)))


def _plain(value: dict[str, Any], named: Named | None) -> Trace:
    """Return the trace of an object that names its parts.

    Its entries: `token_ids` of the whole document; `routed_experts` [row][layer][slot] as lists or as base64 of a .npy
    file, a row per token, the last one optional, -1 for an unknown expert; and optionally `num_prompt` (tokens before
    the generated ones), `routed_experts_start` (token of the first row), `layers` (model layer numbers), `logprobs`
    (of every token, or of the generated ones; null if unknown) and `logprob_temperature` (1 if not stated).
    """
    ids = token_ids(value["token_ids"], "token_ids")
    if not ids:
        raise TraceError("token_ids is empty")
    num_prompt = number_of(value, "num_prompt", "the line")
    num_prompt = len(ids) if num_prompt is None else num_prompt
    if num_prompt > len(ids):
        raise TraceError(f"num_prompt is {num_prompt}, but there are {len(ids)} tokens")
    sent, start = value[FIELD], number_of(value, "routed_experts_start", "the line") or 0
    rows = from_npy(from_base64(sent, FIELD), FIELD) if isinstance(sent, str) else from_lists(sent, FIELD)
    if start + len(rows) not in (len(ids) - 1, len(ids)):
        raise TraceError(f"{FIELD} has {len(rows)} rows from token {start} on, but there are {len(ids)} tokens")
    placement.check_filler(rows, FIELD)
    logprobs = Logprobs(value.get("logprobs"), value.get("logprob_temperature", 1.0))
    return built(rows, start, ids, num_prompt, named, logprobs, "decision table", value.get("layers"))


def _engine_logprobs(one: Any) -> list[Any] | None:
    """Return the log-probabilities of the generated tokens in an answer of vLLM or SGLang; None if it has none."""
    logprobs = member(one, "logprobs", dict, "the choice")
    if logprobs is not None:
        content = member(logprobs, "content", list, "logprobs")
        if content is not None:
            return [entry.get("logprob") if isinstance(entry, Mapping) else None for entry in content]
        return member(logprobs, "token_logprobs", list, "logprobs")
    entries = member(member(one, "meta_info", dict, "the answer"), "output_token_logprobs", list, "meta_info")
    return entries and [entry[0] if isinstance(entry, list) and entry else None for entry in entries]


def _temperature(request: Any) -> float | None:
    """Return the temperature that a request asked for, 1 if it does not say; None if it is no number."""
    params = member(request, "sampling_params", dict, "the request") or request
    stated = params.get("temperature", 1.0) if isinstance(params, Mapping) else 1.0
    return float(stated) if isinstance(stated, int | float) else None


def _with_logprobs(trace: Trace, logprobs: list[Any] | None, temperature: float | None) -> Trace:
    """Return an engine's trace with the log-probabilities of its generated tokens.

    At a temperature other than 1 they are left out, with a note: engines differ in whether they apply it.
    """
    if logprobs is None:
        return trace
    if temperature != 1:
        note = (
            "log-probabilities are left out: the request has a temperature other than 1, which engines may apply or not"
        )
        notes = [*trace.origin["notes"], note]
        return dataclasses.replace(trace, origin={**trace.origin, "notes": notes})
    values = aligned(logprobs, trace.num_tokens, sum(not token.generated for token in trace.tokens))
    return dataclasses.replace(trace, data=trace.data.assign(logprob=("token", values)))
