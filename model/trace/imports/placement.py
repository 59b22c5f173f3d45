"""Find the token of a recording's first row from fields that state it, never from the number of rows alone.

The number of rows does not tell whether the first or the last rows are missing. The token of the first row is therefore
read from the request or the answer. This token is accepted only if the rows then end with the last token that the model
processed.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from model.trace.trace import TraceError

WHOLE_RUN = "one for each token that was fed to the model"


class Start(NamedTuple):
    """A candidate for the token of the first row, and the field that states it."""

    token: int
    field: str


def first_token(num_rows: int, counts: tuple[int, int], starts: Sequence[Start], field: str, name: str) -> Start:
    """Return the token that the first row belongs to, and the field that states it (empty if none does).

    Args:
        num_rows: number of rows.
        counts: number of prompt tokens and of generated tokens. The last token of the run has no row.
        starts: candidates that the request and the answer state.
        field: field of the request that would state the first token, for the error.
        name: name of the rows in the error.

    Raises:
        TraceError: there are too many rows, or too few rows for every candidate.
    """
    num_prompt, num_new = counts
    fed = num_prompt + num_new - 1
    missing = fed - num_rows
    requested = any(start.field.startswith(field) for start in starts)
    for start in starts if requested else [Start(0, ""), *starts]:
        if start.token == missing and 0 <= start.token <= num_prompt:
            return start
    run = f"{name} has {_rows(num_rows)}; a run of {num_prompt} + {num_new} tokens has {fed}"
    unknown = "the other one belongs" if missing == 1 else f"the other {missing} belong"
    stated = [f"{start.token} ({start.field})" for start in starts if start.token]
    if missing < 0:
        raise TraceError(f"{run}: {-missing} too many (padding, or rows of rejected draft tokens?)")
    if stated:
        raise TraceError(f"{run}, and they do not begin at token {' or '.join(stated)}: they are short at their end")
    raise TraceError(
        f"{run}, and nothing states which tokens {unknown} to. If the engine left out a cached prefix, "
        f'send along a request with "{field}": {missing}; if the rows are short at their end, record again'
    )


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def note(first: int, num_rows: int, why: str) -> str:
    """Return a note with the tokens of the first and the last row, and the reason `why`.

    >>> note(8, 9, "routed_experts_prompt_start of the request")
    'rows belong to tokens 8 to 16: routed_experts_prompt_start of the request'
    """
    return f"rows belong to tokens {first} to {first + num_rows - 1}: {why}"


def repeated(ids: np.ndarray) -> list[str]:
    """Return a note if three or more consecutive rows are equal in all layers, which real routing hardly ever causes.

    Args:
        ids: expert ids, [row, moe_layer, slot].
    """
    if len(ids) < 3 or ids[0].size < 8:
        return []
    equal = (ids[1:] == ids[:-1]).all((1, 2)) & (ids[1:] >= 0).all((1, 2))
    edges = np.flatnonzero(np.diff(np.r_[0, equal.view(np.int8), 0]))
    runs = [(first, last) for first, last in edges.reshape(-1, 2).tolist() if last - first >= 2]
    if not runs:
        return []
    first, last = runs[0]
    others = f" (and {len(runs) - 1} more such stretches)" if len(runs) > 1 else ""
    return [f"rows {first} to {last} are equal in all layers{others}; did the engine repeat a row that it had kept?"]


def check_weights(*holders: Any) -> None:
    """Refuse an answer during which the engine changed the weights: its rows belong to several models.

    Args:
        holders: objects of the answer that may have `weight_versions`, a list of {version, start, end}.

    Raises:
        TraceError: an object names more than one version.
    """
    for holder in holders:
        parts = holder.get("weight_versions") if isinstance(holder, dict) else None
        versions = [part.get("version") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        named = list(dict.fromkeys(str(version) for version in versions))
        if len(named) > 1:
            raise TraceError(
                f"the engine changed the weights during the answer (versions {', '.join(named):.80}): its rows belong "
                "to several models; record again between two updates"
            )


def check_filler(ids: np.ndarray, name: str, num_fed: int | None = None) -> None:
    """Refuse rows that hold filler instead of a recording: the same expert is in every slot of every layer.

    Args:
        ids: expert ids, [row, layer, slot], with at least two slots.
        name: name of the rows in the error.
        num_fed: number of tokens that the model processed; None if unknown.

    Raises:
        TraceError: a row holds filler; the message says whether the row is padding.
    """
    if not ids.size or ids.shape[2] < 2:
        return
    filler = (ids == ids[:, :, :1]).all((1, 2)) & (ids[:, 0, 0] >= 0)
    if not filler.any():
        return
    rows = np.flatnonzero(filler)
    where = f"row {rows[0]}" if len(rows) == 1 else f"{len(rows)} rows ({rows[0]} to {rows[-1]})"
    if num_fed is not None and len(ids) - len(rows) == num_fed:
        raise TraceError(f"{name} is padded: {where} of its {len(ids)} hold one expert in every slot; save it without")
    raise TraceError(
        f"{name} holds one expert in every slot of {where}: the engine recorded nothing there (padding, or a cached "
        "prefix that it did not keep); record again, with a prompt that is not in its cache"
    )
