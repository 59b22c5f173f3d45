"""Separate the sequences of a router_logits file: transformers flattens a batch to one axis of rows.

The first token of a sequence attends only to itself. If two sequences begin with the same token, such as BOS, its
logits are therefore equal in all layers. A row that equals row 0, after a row that does not, begins the next sequence.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from model.trace.imports.reading import token_ids
from model.trace.trace import TraceError

# Largest distance of a repeated row to row 0, as a share of the median distance; rounding in bf16 stays below.
_SAME = 0.01
HINT = (
    "save each sequence in a file of its own, or send along a request with token_ids (and attention_mask, if padded), "
    "one list to a sequence"
)


class Batch(NamedTuple):
    """The token ids of several sequences, and a mask of padding, [sequence, token] each."""

    ids: list[list[int]]
    kept: list[list[bool]]


def batch_of(request: Any) -> Batch | None:
    """Return the batch of a request: `token_ids` or `input_ids` with a list per sequence; None without such lists.

    Raises:
        TraceError: the lists differ in length, or `attention_mask` has another shape.
    """
    if not isinstance(request, Mapping):
        return None
    name = next((name for name in ("token_ids", "input_ids") if request.get(name)), "token_ids")
    ids, mask = request.get(name), request.get("attention_mask")
    if not isinstance(ids, list) or not any(isinstance(row, list) for row in ids):
        return None
    rows = [token_ids(row, f"each list of {name}") or [] for row in ids]
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise TraceError(f"the lists of {name} must be of equal length, padded as the model was given them")
    if mask is None:
        return Batch(rows, [[True] * len(row) for row in rows])
    shaped = isinstance(mask, list) and [len(row) if isinstance(row, list) else -1 for row in mask]
    if shaped != [len(row) for row in rows]:
        raise TraceError(f"attention_mask must have the shape of {name}")
    return Batch(rows, [[value in (1, True) for value in row] for row in mask])


def sequence(logits: np.ndarray, batch: Batch, choice: int) -> tuple[np.ndarray, list[int]]:
    """Return the rows and token ids of one sequence, without padding.

    Args:
        logits: router logits of all sequences, one after the other, [row, layer, expert].
        batch: the batch that the request states.
        choice: index of the sequence.

    Raises:
        TraceError: the number of rows does not fit the batch, or the batch has no such sequence.
    """
    number, length = len(batch.ids), len(batch.ids[0])
    if number * length != len(logits):
        raise TraceError(
            f"the file has {len(logits)} rows; {number} sequences of {length} tokens have {number * length}"
        )
    if not 0 <= choice < number:
        raise TraceError(f"the file holds {number} sequences, none of number {choice}")
    kept = np.array(batch.kept[choice], bool)
    if not kept.any():
        raise TraceError(f"the attention_mask leaves no token of sequence {choice}")
    ids = [token for token, keep in zip(batch.ids[choice], kept.tolist(), strict=True) if keep]
    return logits[choice * length : (choice + 1) * length][kept], ids


def later_start(logits: np.ndarray) -> int | None:
    """Return the first row that equals row 0 in all layers, after a row that does not; None if there is none.

    This row begins the next sequence. Rows that equal row 0 and directly follow it begin no sequence: they belong to a
    text that begins with one token several times, because attention over equal tokens changes nothing.
    """
    if len(logits) < 3:
        return None
    distance = np.abs(logits - logits[:1]).mean(2)  # distance to row 0, [row, layer]
    usual = np.median(distance[1:], axis=0)
    same = (distance <= _SAME * usual).all(1) & (usual > 0).all()
    differs = np.maximum.accumulate(~same)
    later = np.flatnonzero(same & differs)
    return int(later[0]) if later.size else None


def check_one(logits: np.ndarray, ids: list[int] | None) -> list[str]:
    """Refuse rows of several sequences, and return notes on what remains uncertain.

    Args:
        logits: router logits, [row, layer, expert].
        ids: token ids that the request states; None if unknown.

    Raises:
        TraceError: a second sequence begins within the rows.
    """
    start = later_start(logits)
    if start is not None:
        raise TraceError(f"row {start} repeats row 0 in all layers: a second sequence begins there; {HINT}")
    if ids is None:
        return ["the file does not say where sequences begin; all its rows count as one"]
    again = [place for place, token in enumerate(ids) if place and token == ids[0]]
    if len(ids) > 2 and again and ids[0] != ids[1]:
        return [
            f"the first token comes again at token {again[0]}; all rows count as one sequence, which attends to itself"
        ]
    return []
