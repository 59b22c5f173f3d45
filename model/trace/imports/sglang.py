"""SGLang's `routed_experts`: expert ids, without weights or scores.

The field is base64 of whole numbers in the order [token, layer, expert], without the shape. The rows are those of the
tokens from `routed_experts_start_len` to the last but one. Every layer of the model has an entry; dense layers have
zeros, which are dropped. The dtype is int32 unless `routed_experts_dtype` states another
(python/sglang/srt/state_capturer/routed_experts.py at commit 024911f and routed_experts_wire.py at a6463a1; PRs #12162,
#24851 and #31219). /generate returns the field in `meta_info`; OpenAI's routes return it in `sgl_ext` of each choice
(PR #17434). A kernel that fuses a shared expert may add a slot with an id above those of the routed experts; that slot
is dropped.
"""

from typing import Any

import numpy as np

from model.trace.imports import placement
from model.trace.imports.building import Named, Words, of_moe_layers, placed, routed_slots, traced
from model.trace.imports.reading import from_base64, in_range, member, number_of, plain_text, token_ids
from model.trace.imports.vllm import FIELD, choice_of, words_of
from model.trace.trace import Trace, TraceError

START = "routed_experts_start_len"
_DTYPES = {"int32": "<i4", "uint16": "<u2", "uint8": "u1"}
_IDS_ONLY = "SGLang sends only the ids of the chosen experts"
MISSING = {
    "weights": _IDS_ONLY,
    "scores, bias and groups": _IDS_ONLY,
    "probabilities of tokens": "they are not read: engines differ in whether they apply the temperature",
    "attention": "engines do not send it",
}


def is_response(value: Any) -> bool:
    """Return whether a JSON value looks like an answer of SGLang with routed experts."""
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, dict):
        return False
    choices = first.get("choices")
    extended = isinstance(choices, list) and any(isinstance(entry, dict) and "sgl_ext" in entry for entry in choices)
    return extended or isinstance(first.get("meta_info"), dict)


def read(response: Any, named: Named, request: Any = None, choice: int = 0) -> Trace:
    """Return the trace of one answer.

    Args:
        response: answer of /generate (an object, or a list for a batch), /v1/completions or /v1/chat/completions,
            parsed from JSON.
        named: the model that answered.
        request: the JSON that was sent; None if unknown.
        choice: index of the answer, if there are several.

    Raises:
        TraceError: there are no routed experts, or they do not fit the model or the tokens.
    """
    if isinstance(response, dict) and "choices" in response:
        one = choice_of(response, choice)
        words, holder = words_of(response, one, request), member(one, "sgl_ext", dict, "the choice")
    else:
        one = _answer(response, choice)
        holder = member(one, "meta_info", dict, "the answer")
        words = _native_words(one, holder, request)
    placement.check_weights(response, one, holder)
    sent = member(holder, FIELD, str, "the answer")
    if sent is None:
        raise TraceError(
            f"the answer has no {FIELD}; start SGLang with --enable-return-routed-experts and ask for it with "
            "return_routed_experts"
        )
    dtype = member(holder, f"{FIELD}_dtype", str, "the answer") or "int32"
    if dtype not in _DTYPES:
        raise TraceError(f"{FIELD}_dtype is {dtype!r:.40}, not {', '.join(_DTYPES)}")
    ids = np.frombuffer(_whole(from_base64(sent, FIELD), np.dtype(_DTYPES[dtype])), _DTYPES[dtype])
    return _trace(in_range(ids, FIELD), words.completed(named), named, _starts(request, holder))


def _answer(response: Any, choice: int) -> Any:
    answers = response if isinstance(response, list) else [response]
    if not 0 <= choice < len(answers) or not isinstance(answers[choice], dict):
        raise TraceError(f"the file has {len(answers)} answers, none of number {choice}")
    return answers[choice]


def _native_words(one: Any, meta: Any, request: Any) -> Words:
    """Return the token ids stated in a request to /generate and in its answer."""
    before, after = (_logged(meta, name) for name in ("input_token_logprobs", "output_token_logprobs"))
    num_prompt = number_of(meta, "prompt_tokens", "meta_info")
    if before is not None and len(before) != num_prompt:  # log-probabilities may begin at a later token
        before = None
    request = request if isinstance(request, dict) else {}
    prompt_ids = token_ids(request.get("input_ids"), "input_ids")
    new_ids = token_ids(one.get("output_ids"), "output_ids")
    if num_prompt is not None and prompt_ids is None and before is not None:
        prompt_ids = [token_id for token_id, _ in before]
    return Words(
        prompt=member(request, "text", str, "the request") if isinstance(request.get("text"), str) else None,
        text=member(one, "text", str, "the answer"),
        prompt_ids=prompt_ids,
        new_ids=[token_id for token_id, _ in after] if new_ids is None and after is not None else new_ids,
        num_prompt=num_prompt,
        num_new=number_of(meta, "completion_tokens", "meta_info"),
        pieces=_pieces(before, after, num_prompt),
    )


def _logged(meta: Any, name: str) -> list[tuple[int, str | None]] | None:
    """Return the ids and texts of a list [[log-probability, id, text], ...]; None if it is missing or empty."""
    entries = member(meta, name, list, "meta_info")
    if not entries:
        return None
    if not all(isinstance(entry, list) and len(entry) == 3 for entry in entries):
        raise TraceError(f"{name} must be a list of [log-probability, id, text]")
    ids = token_ids([entry[1] for entry in entries], name) or []
    texts = [plain_text(entry[2], name) if isinstance(entry[2], str) else None for entry in entries]
    return list(zip(ids, texts, strict=True))


def _pieces(before: list | None, after: list | None, num_prompt: int | None) -> list[str | None] | None:
    if after is None or num_prompt is None:
        return None
    return [*([None] * num_prompt if before is None else [text for _, text in before]), *(text for _, text in after)]


def _starts(request: Any, holder: Any) -> list[placement.Start]:
    """Return the indices of the first row's token that the request and the answer state, at most one from each."""
    starts = [
        (number_of(request, START, "the request"), f"{START} of the request"),
        (number_of(holder, START, "the answer"), f"{START} of the answer"),
    ]
    return [placement.Start(token, by) for token, by in starts if token is not None]


def _whole(content: bytes, dtype: np.dtype) -> bytes:
    if len(content) % dtype.itemsize:
        raise TraceError(f"{FIELD} has {len(content):,} bytes, which is no whole number of {dtype}; it is cut off")
    return content


def _trace(ids: np.ndarray, words: Words, named: Named, starts: list[placement.Start]) -> Trace:
    """Return the trace of flat ids, shaped by the model's layers and slots; the last token has no row."""
    shape = named.shape
    if words.num_prompt is None or words.num_new is None:
        raise TraceError("the answer does not say how many tokens prompt and text have, so the rows cannot be placed")
    counts = words.num_prompt, words.num_new
    num_tokens = sum(counts)
    expected = num_tokens - 1 - next((start.token for start in starts), 0)
    rows = _shaped(ids, shape.num_layers, shape.top_k, expected)
    placement.check_filler(rows, FIELD, expected)
    start = placement.first_token(len(rows), counts, starts, START, FIELD)
    rows = routed_slots(of_moe_layers(rows, shape, FIELD), shape, FIELD)
    expert_id = placed(rows, start.token, num_tokens, FIELD)
    notes = [placement.note(start.token, len(rows), start.field or placement.WHOLE_RUN), *placement.repeated(rows)]
    return traced(named, words, expert_id, "SGLang", "SGLang routed_experts", MISSING, notes)


def _shaped(ids: np.ndarray, num_layers: int, top_k: int, expected: int) -> np.ndarray:
    """Return the ids as [row, layer, slot].

    A row has an extra slot for a shared expert if only this gives the `expected` number of rows.

    Raises:
        TraceError: the number of ids is no multiple of the number of ids in a row.
    """
    fitting = [
        ids.reshape(-1, num_layers, slots)
        for slots in (top_k, top_k + 1)
        if ids.size % (num_layers * slots) == 0
    ]  # fmt: skip
    if not fitting:
        raise TraceError(
            f"{FIELD} has {ids.size:,} ids; {expected} rows of {num_layers} layers with {top_k} experts have "
            f"{expected * num_layers * top_k:,}"
        )
    return next((rows for rows in fitting if len(rows) == expected), fitting[0])
