"""The counts of SGLang's expert-distribution recorder, mode stat, converted to JSON.

The dump has `logical_count` [step, layer, expert]: the selections of each forward pass, summed over ranks, by the
model's own expert numbers. Dense layers have rows of zeros, and so have unused steps of the buffer. The dump is pickled
and never opened here; `CONVERT` in `model/cli/import_file.py` is a script that converts it on the user's machine.

Source: `python/sglang/srt/eplb/expert_distribution.py` at commit 02295fe.
"""

from typing import Any

from model.trace.imports.building import Named
from model.trace.imports.counts import Counts, counted
from model.trace.imports.reading import whole_numbers
from model.trace.trace import TraceError

FIELD = "logical_count"


def read(dump: Any, named: Named) -> Counts:
    """Return the counts of the dump, a window for each step.

    Args:
        dump: the converted dump, parsed from JSON.
        named: the model that was run.

    Raises:
        TraceError: the counts are not whole numbers, or do not fit the model.
    """
    value = dump.get(FIELD) if isinstance(dump, dict) else None
    counts = whole_numbers(value, 3)
    if counts is None:
        one = whole_numbers(value, 2)
        counts = None if one is None else one[None]
    if counts is None or not counts.size or counts.min() < 0:
        raise TraceError(
            f"{FIELD} must be whole numbers of at least 0, [step][layer][expert], in lists of equal length"
        )
    if counts.shape[1] != named.shape.num_layers:
        raise TraceError(
            f"{FIELD} has {counts.shape[1]} layers; the model named has {named.shape.num_layers}, dense ones included"
        )
    by_layer = {layer: counts[:, layer] for layer in range(counts.shape[1])}
    notes = ["steps stand in the order of the recorder's buffer, which begins again when it is full"]
    return counted(by_layer, named, "SGLang", "SGLang expert-distribution recorder, counts", notes)
