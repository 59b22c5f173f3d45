"""A dump of SGLang's expert-distribution recorder, mode per_token, converted to JSON.

The dump is a pickled .pt file, which is never opened here, because a pickle can run code. `CONVERT` in
`model/cli/import_file.py` is a script that converts it on the user's machine.

A dump lists forward passes: `input_ids`, `positions`, `extend_seq_lens` and `topk_ids_of_layer` [layer, token, 8] with
-1 for a slot that was not recorded. The ids are those of *physical* experts, the copies on devices;
`last_physical_to_logical_map` [layer, physical] has the number that each copy's expert has in the model
(python/sglang/srt/eplb/expert_distribution.py at commit 02295fe; PR #4957). A pass does not say which run a token
belongs to. The reader joins tokens to runs by their positions, and refuses runs that it cannot separate.
"""

from typing import Any

import numpy as np

from model.trace import limits
from model.trace.imports.building import Named, StatedShape, Words, placed, routed_slots, traced
from model.trace.imports.reading import in_range, member, token_ids, whole_numbers
from model.trace.trace import Trace, TraceError

HINT = "convert it to JSON where it was made, with the script that `python -m model import --help` prints"
_IDS_ONLY = "the recorder keeps only the ids of the chosen experts"
MISSING = {
    "weights": _IDS_ONLY,
    "scores, bias and groups": _IDS_ONLY,
    "probabilities of tokens": "the recorder does not keep them",
    "attention": "the recorder does not keep it",
}
_NAME = "topk_ids_of_layer"


def is_dump(value: Any) -> bool:
    """Return whether a JSON value looks like a converted dump."""
    return isinstance(value, dict) and ("records" in value or "logical_count" in value)


def read(dump: Any, named: Named, choice: int = 0) -> Trace:
    """Return the trace of one run in a converted dump.

    Args:
        dump: the converted dump, parsed from JSON.
        named: the model that was run.
        choice: index of the run, in the order in which the runs began.

    Raises:
        TraceError: the dump holds no tokens, its ids cannot be mapped, or its runs cannot be separated.
    """
    records = member(dump, "records", list, "the dump") or []
    if not records or any(member(record, _NAME, list, "a record") is None for record in records):
        raise TraceError("the dump holds counts only; record with --expert-distribution-recorder-mode per_token")
    shape, table = named.shape, _table(dump, named.shape)
    runs: list[_Run] = []
    for record in records:
        _add(record, runs, table, shape)
    if not 0 <= choice < len(runs):
        raise TraceError(f"the dump holds {len(runs)} runs, none of number {choice}")
    run = runs[choice]
    if len({row.shape for row in run.rows}) > 1:
        raise TraceError(f"{_NAME} has other numbers of experts to a token in one record than in another")
    expert_id = placed(routed_slots(np.stack(run.rows), shape, _NAME), run.start, run.reached, _NAME)
    unknown = [-1] * run.start  # the recorder skips tokens from the prefix cache
    words = Words(
        prompt_ids=[*unknown, *run.ids[: run.num_prompt]],
        new_ids=run.ids[run.num_prompt :],
        num_prompt=run.start + run.num_prompt,
        num_new=len(run.ids) - run.num_prompt,
    )
    notes = [] if len(runs) == 1 else [f"run {choice} of the {len(runs)} that the dump holds"]
    notes.append("the last sampled token was never fed to the model, and is not in the dump")
    return traced(named, words, expert_id, "SGLang", "SGLang expert-distribution recorder", MISSING, notes)


class _Run:
    """The recorded tokens of one request."""

    def __init__(self, start: int) -> None:
        self.start = start  # position of its first recorded token
        self.ids: list[int] = []
        self.rows: list[np.ndarray] = []  # expert ids of each token, [moe_layer, slot]
        self.num_prompt = 0

    @property
    def reached(self) -> int:
        """The position of the run's next token."""
        return self.start + len(self.ids)


def _table(dump: Any, shape: StatedShape) -> np.ndarray:
    """Return the logical expert of each physical expert, [layer, physical]."""
    table = member(dump, "last_physical_to_logical_map", list, "the dump")
    if table is None:
        raise TraceError(
            "the dump lacks last_physical_to_logical_map, so its physical ids cannot be mapped to the model's experts"
        )
    mapped = _numbers(table, "last_physical_to_logical_map", 2)
    if len(mapped) != shape.num_layers or mapped.min(initial=0) < 0 or mapped.max(initial=0) >= shape.num_experts:
        raise TraceError(
            f"last_physical_to_logical_map has {len(mapped)} layers and experts up to {mapped.max(initial=0)}; the "
            f"model named has {shape.num_layers} layers and {shape.num_experts} experts"
        )
    return mapped


def _numbers(value: Any, name: str, axes: int) -> np.ndarray:
    numbers = whole_numbers(value, axes)
    if numbers is None:
        raise TraceError(f"{name} must be whole numbers in {axes} axes of equal length")
    return in_range(numbers, name)


def _add(record: Any, runs: list[_Run], table: np.ndarray, shape: StatedShape) -> None:
    """Add the tokens of a forward pass to the runs that they continue or begin."""
    ids = token_ids(member(record, "input_ids", list, "a record"), "input_ids") or []
    positions = token_ids(member(record, "positions", list, "a record"), "positions") or []
    if not ids:  # a pass without tokens
        return
    logical = _logical(_numbers(record[_NAME], _NAME, 3), table, shape)
    if logical.shape[0] != len(ids) or len(positions) != len(ids):
        raise TraceError(f"a record has {len(ids)} input_ids, {len(positions)} positions and {len(logical)} rows")
    lengths = token_ids(member(record, "extend_seq_lens", list, "a record"), "extend_seq_lens")
    decodes = lengths is None
    parts = [1] * len(ids) if lengths is None else lengths
    if sum(parts) != len(ids):
        raise TraceError(f"extend_seq_lens of a record sum to {sum(parts)}, it has {len(ids)} tokens")
    extended: set[int] = set()  # runs that this pass continues or begins
    start = 0
    for length in filter(None, parts):
        of_part = slice(start, start + length)
        run = _continued(runs, positions[start], decodes, extended)
        if positions[of_part] != list(range(run.reached, run.reached + length)):
            raise TraceError("the positions of a record do not ascend by one; the dump is damaged")
        run.ids += ids[of_part]
        run.rows += list(logical[of_part])
        run.num_prompt += 0 if decodes else length
        start += length


def _continued(runs: list[_Run], position: int, decodes: bool, extended: set[int]) -> _Run:
    """Return the run that continues at this position, or a new one."""
    matches = [index for index, run in enumerate(runs) if run.reached == position and index not in extended]
    if len(matches) > 1:
        raise TraceError("several runs of the dump cannot be told apart; record while one request at a time is served")
    if matches and (decodes or position > 0):
        extended.add(matches[0])
        return runs[matches[0]]
    if decodes:
        raise TraceError("the dump begins in the middle of a run; start to record before the request is sent")
    extended.add(len(runs))
    runs.append(_Run(position))
    limits.check_runs(len(runs))
    return runs[-1]


def _logical(physical: np.ndarray, table: np.ndarray, shape: StatedShape) -> np.ndarray:
    """Convert ids of physical experts, [layer, token, slot], to those of the model, [token, moe_layer, slot]."""
    if physical.shape[0] != shape.num_layers:
        raise TraceError(f"{_NAME} has {physical.shape[0]} layers, the model named {shape.num_layers}")
    if physical.shape[2] > shape.top_k and (physical[:, :, shape.top_k :] == -1).all():
        physical = physical[:, :, : shape.top_k]  # the recorder always keeps 8 slots
    if physical.size and physical.max() >= table.shape[1]:
        raise TraceError(f"{_NAME} names physical expert {physical.max()} of {table.shape[1]}")
    layers = np.arange(shape.num_layers)[:, None, None]
    logical = np.where(physical < 0, -1, table[layers, physical])
    return logical[shape.num_dense :].transpose(1, 0, 2)
