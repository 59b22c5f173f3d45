"""vLLM's `routed_experts` in all its published forms: expert ids, without weights or scores.

- Lists [token, layer, expert]: `prompt_routed_experts` of the response for the prompt, `routed_experts` of each choice
  for the generated tokens; -1 for a prefix from the cache (docs/training/routed_experts_replay.md at commit
  0087e00, v0.21; first in PR #28284).
- Base64 of a .npy file over prompt and generated tokens, one row fewer than tokens, as `routed_experts` of each
  choice; of type uint8, uint16 or int32 (vllm/entrypoints/serve/disagg/protocol.py; PRs #38939 and #39568).
- The same .npy file without the first `routed_experts_prompt_start` prompt tokens (PR #51906), or, as proposed in PR
  #57966, without the cached prompt tokens, whose number is `prompt_tokens_details.cached_tokens` of the usage.

The layer axis holds either the MoE layers or all layers; its length tells which.
"""

from typing import Any

import numpy as np

from model.trace.imports import placement
from model.trace.imports.building import Named, Words, of_moe_layers, placed, routed_slots, traced
from model.trace.imports.reading import from_base64, from_lists, from_npy, member, number_of, token_ids
from model.trace.trace import Trace, TraceError

FIELD, PROMPT_FIELD, START = "routed_experts", "prompt_routed_experts", "routed_experts_prompt_start"
NOT_SENT = (
    f"the answer has no {FIELD}; start vLLM with --enable-return-routed-experts (SGLang: the same flag, and ask with "
    "return_routed_experts)"
)
_IDS_ONLY = "vLLM sends only the ids of the chosen experts"
MISSING = {
    "weights": _IDS_ONLY,
    "scores, bias and groups": _IDS_ONLY,
    "probabilities of tokens": "they are not read: engines differ in whether they apply the temperature",
    "attention": "engines do not send it",
}


def is_answer(value: Any) -> bool:
    """Return whether a JSON value looks like an answer in OpenAI's form, with or without routed experts."""
    return isinstance(value, dict) and isinstance(value.get("choices"), list)


def is_response(value: Any) -> bool:
    """Return whether a JSON value looks like an answer of vLLM with routed experts."""
    choices = value.get("choices") if isinstance(value, dict) else None
    return isinstance(choices, list) and any(isinstance(entry, dict) and FIELD in entry for entry in choices)


def read(response: Any, named: Named, request: Any = None, choice: int = 0) -> Trace:
    """Return the trace of one choice of a response.

    Args:
        response: answer of /v1/completions, /v1/chat/completions or /inference/v1/generate, parsed from JSON.
        named: the model that was run.
        request: the JSON that was sent, which states the prompt and the first recorded row; None if unknown.
        choice: index of the answer, if there are several.

    Raises:
        TraceError: there are no routed experts, or they do not fit the model or the tokens.
    """
    one = choice_of(response, choice)
    placement.check_weights(response, one)
    sent = member(one, FIELD, object, "the choice")
    if sent is None and response.get(PROMPT_FIELD) is None:
        raise TraceError(NOT_SENT)
    words = words_of(response, one, request).completed(named)
    if not isinstance(sent, str):
        return _in_two_parts(response, one, words, named, _starts(response, one, request))
    rows = from_npy(from_base64(sent, FIELD), FIELD)
    return _whole_run(rows, words, named, _starts(response, one, request))


def read_npy(content: bytes, named: Named) -> Trace:
    """Return the trace of the rows in a .npy file, which holds no tokens.

    Raises:
        TraceError: the file is no .npy file, or does not fit the model.
    """
    return _whole_run(from_npy(content, "the file"), Words(), named, [])


def choice_of(response: Any, choice: int) -> dict[str, Any]:
    """Return one choice of a response in OpenAI's form."""
    choices = member(response, "choices", list, "the answer") or []
    if not 0 <= choice < len(choices) or not isinstance(choices[choice], dict):
        raise TraceError(f"the answer has {len(choices)} choices, none of number {choice}")
    return choices[choice]


def words_of(response: Any, one: Any, request: Any) -> Words:
    """Return the tokens that are stated in an answer in OpenAI's form and in its request.

    The answer holds ids only if the request set `return_token_ids`, or `return_tokens_as_token_ids` with logprobs.
    """
    usage, message = member(response, "usage", dict, "the answer"), member(one, "message", dict, "the choice")
    text = member(one, "text", str, "the choice")
    prompt = request.get("prompt") if isinstance(request, dict) else None
    sent_ids = prompt if isinstance(prompt, list) else request.get("token_ids") if isinstance(request, dict) else None
    given = one.get("prompt_token_ids") or response.get("prompt_token_ids") or sent_ids
    return Words(
        prompt=member(request, "prompt", str, "the request") if isinstance(prompt, str) else None,
        text=member(message, "content", str, "the message") if text is None else text,
        prompt_ids=token_ids(given, "prompt_token_ids"),
        new_ids=token_ids(one.get("token_ids"), "token_ids") or _logged_ids(one.get("logprobs")),
        num_prompt=number_of(usage, "prompt_tokens", "usage"),
        num_new=number_of(usage, "completion_tokens", "usage"),
    )


def _logged_ids(logprobs: Any) -> list[int] | None:
    """Return the token ids that log-probabilities state as `token_id:5`; None if there are none."""
    content = member(logprobs, "content", list, "logprobs")
    spelled = member(logprobs, "tokens", list, "logprobs") if content is None else [_token(entry) for entry in content]
    parts = [str(entry).partition("token_id:") for entry in spelled or []]
    if not parts or not all(
        mark and number.isascii() and number.isdigit() and len(number) < 10 for _, mark, number in parts
    ):
        return None
    return [int(number) for _, _, number in parts]


def _token(entry: Any) -> Any:
    return entry.get("token") if isinstance(entry, dict) else None


def _starts(response: Any, one: Any, request: Any) -> list[placement.Start]:
    """Return the candidates for the token of the first row, from the request and the answer."""
    sampling = member(request, "sampling_params", dict, "the request") or {}
    details = member(member(response, "usage", dict, "the answer"), "prompt_tokens_details", dict, "usage")
    starts = [
        (number_of(sampling, START, "the request"), f"{START} of the request"),
        (number_of(request, START, "the request"), f"{START} of the request"),
        (number_of(one, START, "the choice"), f"{START} of the answer"),
        (number_of(details, "cached_tokens", "the usage"), "cached_tokens of the answer"),
    ]
    return [placement.Start(token, by) for token, by in starts if token is not None]


def fitting(rows: np.ndarray, named: Named, name: str = FIELD) -> np.ndarray:
    """Check the expert ids `rows`, and return the ids in the MoE layers and in the slots of routed experts.

    Raises:
        TraceError: the rows do not fit the model.
    """
    if not len(rows):
        return np.zeros((0, len(named.shape.moe_layers), named.shape.top_k), np.int64)
    return routed_slots(of_moe_layers(rows, named.shape, name), named.shape, name)


def _whole_run(rows: np.ndarray, words: Words, named: Named, starts: list[placement.Start]) -> Trace:
    """Return the trace of rows over prompt and generated tokens; the last token has no row."""
    if words.num_prompt is None or words.num_new is None:
        placement.check_filler(rows, FIELD)
        start = next(iter(starts), placement.Start(0, ""))
        num_tokens = start.token + len(rows) + 1
        notes = ["the file does not state the length of the prompt; all tokens count as prompt"]
        why = start.field or "assumed, because the file does not state the tokens of the run"
        words = Words(prompt=words.prompt, text=words.text)
    else:
        counts, notes = (words.num_prompt, words.num_new), []
        num_tokens = sum(counts)
        placement.check_filler(rows, FIELD, num_tokens - 1)
        start = placement.first_token(len(rows), counts, starts, START, FIELD)
        why = start.field or placement.WHOLE_RUN
    rows = fitting(rows, named)
    notes += [placement.note(start.token, len(rows), why), *placement.repeated(rows)]
    expert_id = placed(rows, start.token, num_tokens, FIELD)
    return traced(named, words, expert_id, "vLLM", "vLLM routed_experts (.npy)", MISSING, notes)


def _in_two_parts(response: Any, one: Any, words: Words, named: Named, starts: list[placement.Start]) -> Trace:
    """Return the trace of two lists, rows of the prompt and rows of one choice; one of them may be missing.

    Raises:
        TraceError: the rows do not fit, or nothing states where they begin.
    """
    before, sent = response.get(PROMPT_FIELD), one.get(FIELD)
    rows = from_lists([] if sent is None else sent, FIELD)
    if before is None and words.num_new is not None and words.num_prompt is not None:
        of_answer = len(rows) in (words.num_new, words.num_new - 1)
        if not of_answer and (PROMPT_FIELD not in response or len(rows) > words.num_new):
            return _whole_run(rows, words, named, starts)
    placement.check_filler(rows, FIELD)
    rows = fitting(rows, named)
    prompt_rows = None if before is None else from_lists(before, PROMPT_FIELD)
    if prompt_rows is not None:
        placement.check_filler(prompt_rows, PROMPT_FIELD)
        prompt_rows = fitting(prompt_rows, named, PROMPT_FIELD)
    num_prompt = words.num_prompt if prompt_rows is None else len(prompt_rows)
    if num_prompt is None:
        raise TraceError(f"the answer has neither {PROMPT_FIELD} nor usage; the rows cannot be placed")
    if words.num_prompt not in (None, num_prompt):
        raise TraceError(f"{PROMPT_FIELD} has {num_prompt} rows, the prompt {words.num_prompt} tokens")
    num_new = len(rows) if words.num_new is None else words.num_new
    expert_id = placed(rows, num_prompt, num_prompt + num_new, FIELD)
    notes = _about_lists(num_prompt, len(rows), num_new)
    if prompt_rows is not None:
        expert_id[:num_prompt] = prompt_rows
        notes.append(f"{PROMPT_FIELD}: " + placement.note(0, num_prompt, "it begins at the first prompt token"))
    words = Words(words.prompt, words.text, words.prompt_ids, words.new_ids, num_prompt, num_new)
    return traced(named, words, expert_id, "vLLM", "vLLM routed_experts (lists)", MISSING, notes)


def _about_lists(num_prompt: int, num_rows: int, num_new: int) -> list[str]:
    """Return notes on the first row of a choice, and on missing rows at its end."""
    if not num_rows:
        return [f"{FIELD} is absent or empty: no generated token has a row"] if num_new > 1 else []
    why = f"in lists, {FIELD} begins at the first generated token"
    short = num_new - 1 - num_rows
    lacks = (
        [f"{FIELD} is short at its end: of the generated tokens that were fed, the last {short} lack a row"]
        if short > 0
        else []
    )
    return [f"{FIELD}: " + placement.note(num_prompt, num_rows, why), *lacks]
