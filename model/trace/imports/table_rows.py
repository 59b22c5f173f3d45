"""Build the trace of one document of a decision table, from its rows of expert ids and its log-probabilities."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from model.trace.imports.building import Named, Words, labelled, of_moe_layers, placed, routed_slots
from model.trace.imports.origin import origin
from model.trace.trace import Trace, TraceError

FIELD = "routed_experts"
_MISSING = {"weights, scores, bias and groups": "a decision table holds only the ids of the chosen experts"}


class Document(NamedTuple):
    """One document: its name in the table, else its number from 1 on, and its routing; a single run has no name."""

    name: str
    trace: Trace


class Logprobs(NamedTuple):
    """Log-probabilities as a file gives them, None if it gives none, and the temperature that they belong to."""

    values: Any
    temperature: Any


def built(
    rows: np.ndarray,
    start: int,
    ids: list[int],
    num_prompt: int,
    named: Named | None,
    logprobs: Logprobs,
    form: str,
    stated_layers: Any = None,
) -> Trace:
    """Return the trace of a document.

    Args:
        rows: expert ids, [row, layer, slot]; -1 is unknown.
        start: token of the first row.
        ids: token ids of the document.
        num_prompt: number of tokens before the generated ones.
        named: the model that was run; None: the rows are those of MoE layers only.
        logprobs: log-probabilities of all tokens, or of the generated ones.
        form: name of the format.
        stated_layers: model layer numbers that the file states; None: from 0 on.

    Raises:
        TraceError: the rows or the log-probabilities do not fit.
    """
    model = named or Named("a model that was not named", {})
    if named is not None:
        layers: Sequence[int] = named.shape.moe_layers
        rows = routed_slots(of_moe_layers(rows, named.shape, FIELD), named.shape, FIELD)
    else:
        layers = _layers(stated_layers, rows.shape[1])
        _refuse_unrecorded(rows, layers)
    words = Words(prompt_ids=ids[:num_prompt], new_ids=ids[num_prompt:], num_prompt=num_prompt)
    tokens, text = labelled(words, model, len(ids))
    values, temperature = logprobs
    if not isinstance(temperature, int | float | str) or not _is_number(temperature):
        raise TraceError(f"logprob_temperature must be a number, not {temperature!r:.40}")
    variables = {
        "token_id": ("token", np.array(ids, np.int32)),
        "expert_id": (("token", "moe_layer", "rank"), placed(rows, start, len(ids), FIELD)),
    }
    if values is not None:
        variables["logprob"] = ("token", aligned(values, len(ids), num_prompt))
    return Trace(
        data=xr.Dataset(variables, {"moe_layer": list(layers)}),
        tokens=tokens,
        text=text,
        request={},
        model=model.description(),
        origin=origin("unknown", form, _MISSING, logprob_temperature=float(temperature)),
    )


def _layers(stated: Any, number: int) -> list[int]:
    """Return the model layer numbers that a document states; from 0 on if it states none."""
    if stated is None:
        return list(range(number))
    whole = isinstance(stated, list) and all(type(layer) is int and layer >= 0 for layer in stated)
    if not whole or len(stated) != number or stated != sorted(set(stated)):
        raise TraceError(f"layers must be {number} ascending layer numbers, not {stated!r:.60}")
    return stated


def _refuse_unrecorded(rows: np.ndarray, layers: Sequence[int]) -> None:
    """Refuse an expert that appears twice in a row, which also finds layers of zeros."""
    ordered = np.sort(rows, axis=-1)
    twice = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)
    if twice.any():
        row, layer, slot = (int(axis[0]) for axis in np.nonzero(twice))
        why = "the engine recorded nothing there"
        if twice[:, layer].all():
            why = f"{why}, or the layer is dense: name the model (--model), which says so"
        raise TraceError(f"expert {ordered[row, layer, slot]} stands twice in row {row}, L{layers[layer]}; {why}")


def aligned(values: Any, num_tokens: int, num_prompt: int) -> np.ndarray:
    """Return log-probabilities by token, float32 [token]; NaN where they are unknown.

    Raises:
        TraceError: their number is neither that of all tokens nor that of the generated ones, or one is no number or
            above 0.
    """
    if not isinstance(values, list | np.ndarray) or len(values) not in (num_tokens, num_tokens - num_prompt):
        number = len(values) if isinstance(values, list | np.ndarray) else "no list of"
        raise TraceError(f"there are {number} logprobs for {num_tokens} tokens, {num_tokens - num_prompt} generated")
    if not all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        raise TraceError("logprobs must be numbers, or null where one is unknown")
    known = np.array([np.nan if value is None else value for value in values], np.float64)
    if (known > 0).any():
        raise TraceError(f"a log-probability is {known[known > 0][0]:.4g}; none is above 0")
    whole = np.full(num_tokens, np.nan, np.float32)
    whole[num_tokens - len(known) :] = known
    return whole


def _is_number(value: float | str) -> bool:
    try:
        return float(value) > 0
    except ValueError:
        return False
