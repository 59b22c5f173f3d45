"""The CSV that the proposed `moe-trace` of llama.cpp writes: llama.cpp PR #28544 (open), at commit 879f4d6 of its head.

The file has a row `layer,expert` for each selected expert, without a header, in the order of computation: batch by
batch, then layer by layer, then token by token. It names neither batches nor tokens. A batch ends where the layer
number falls. The number of tokens of a batch is its number of rows per layer divided by the experts per token. The last
layer computes only the last token of a batch, because only that token's output is used.

This version of `moe-trace` copies the first n x k numbers of `ffn_moe_topk`, a view of whole rows sorted by score. In a
batch of n > 1 tokens these are not the experts of the tokens but a ranking of all experts for the first tokens. The
reader recognises this, because no expert occurs twice although chance would repeat some, and marks the tokens' experts
as unknown.
"""

import numpy as np

from model.trace import limits
from model.trace.imports.building import UNKNOWN, Named, StatedShape, Words, routed_slots, traced
from model.trace.trace import Trace, TraceError

_IDS_ONLY = "moe-trace writes only the ids of the chosen experts"
MISSING = {
    "weights": _IDS_ONLY,
    "scores, bias and groups": _IDS_ONLY,
    "tokens and text": "moe-trace does not write them",
    "probabilities of tokens": "moe-trace does not write them",
    "attention": "moe-trace does not write it",
}
COPIED = (
    "in {} of {} batches of several tokens moe-trace wrote a ranking of all experts, not those of the tokens "
    "(llama.cpp PR 28544 copies a view without its gaps); the experts of these tokens are unknown"
)


def is_csv(content: bytes) -> bool:
    """Return whether the bytes look like rows of two whole numbers."""
    first = content[:200].lstrip(b"\xef\xbb\xbf").split(b"\n")[0].strip()
    return first == b"layer,expert" or first.replace(b",", b"", 1).isdigit() and first.count(b",") == 1


def read(content: bytes, named: Named) -> Trace:
    """Return the trace in the file.

    Args:
        content: bytes of the file.
        named: the model that was run; its layers and experts per token show where a token begins.

    Raises:
        TraceError: a row is not two whole numbers, or the rows do not fit the model.
    """
    shape = named.shape
    layers, experts = _rows(content)
    batches = [_batch(layers[part], experts[part], shape) for part in _split(layers)]
    several = [batch for batch in batches if len(batch) > 1]
    copied = [batch for batch in several if _is_ranking(batch, shape.num_experts)]
    for batch in copied:
        batch[...] = UNKNOWN
    expert_id = routed_slots(np.concatenate(batches), shape, "the file")
    prompt = max((index + 1 for index, batch in enumerate(batches) if len(batch) > 1), default=1)
    num_prompt = sum(len(batch) for batch in batches[:prompt])
    words = Words(num_prompt=num_prompt, num_new=len(expert_id) - num_prompt)
    notes = ["tokens up to the last batch of several count as prompt; the file does not say"]
    notes += [COPIED.format(len(copied), len(several))] if copied else []
    return traced(named, words, expert_id, "llama.cpp", "llama.cpp moe-trace (PR 28544)", MISSING, notes)


def _rows(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the layers and the experts of all rows, each int64 [row], parsed and checked without a loop over rows."""
    limits.check_csv(content)
    if not content.isascii():
        byte = int(np.flatnonzero(np.frombuffer(content, np.uint8) > 127)[0])
        raise TraceError(f"the file is not CSV: byte {byte} is no ASCII character")
    content = content.replace(b"\r\n", b"\n")
    first, _, rest = content.partition(b"\n")
    content = rest if first.strip() == b"layer,expert" else content
    if not content:
        raise TraceError("the file holds no row")
    if not content.endswith(b"\n"):
        raise TraceError("the file does not end with a line's end; is it cut off?")
    marks = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero((marks < ord("0")) | (marks > ord("9")))
    lengths = np.diff(ends, prepend=-1) - 1  # number of digits before each separator
    wrong = (marks[ends] != np.resize([ord(","), ord("\n")], len(ends))) | (lengths < 1) | (lengths > 9)
    if wrong.any() or len(ends) % 2:
        at = int(ends[int(np.flatnonzero(wrong)[0])]) if wrong.any() else len(content) - 1
        number, start = content.count(b"\n", 0, at) + 1, content.rfind(b"\n", 0, at) + 1
        line = content[start : start + 60].split(b"\n")[0].decode("utf-8", "backslashreplace")
        raise TraceError(f"row {number} is {line!r:.80}, not a layer and an expert")
    table = np.fromstring(content.replace(b"\n", b",").decode(), np.int64, sep=",").reshape(-1, 2)
    if table.max() > np.iinfo(np.int16).max:
        raise TraceError(f"the file runs from {table.min()} to {table.max()}, which are no expert ids")
    return table[:, 0], table[:, 1]


def _split(layers: np.ndarray) -> list[slice]:
    """Return the rows of each batch as slices; a batch begins where the layer number falls."""
    falls = np.flatnonzero(np.diff(layers) < 0) + 1
    limits.check_batches(len(falls) + 1)
    edges = [0, *falls.tolist(), len(layers)]
    return [slice(first, last) for first, last in zip(edges[:-1], edges[1:], strict=True)]


def _batch(layers: np.ndarray, experts: np.ndarray, shape: StatedShape) -> np.ndarray:
    """Return the expert ids of one batch, [token, moe_layer, rank]; -1 where the last layer left a token out."""
    by_layer = {int(layer): experts[layers == layer] for layer in np.unique(layers)}
    if tuple(by_layer) != shape.moe_layers:
        numbers = f"{min(by_layer)} to {max(by_layer)}, {len(by_layer)} in all" if by_layer else "none"
        raise TraceError(
            f"a batch has the layers {numbers}; the model named has experts in {shape.moe_layers[0]} to "
            f"{shape.moe_layers[-1]} (is the file cut off?)"
        )
    last = shape.moe_layers[-1]
    counts = {layer: len(ids) for layer, ids in by_layer.items() if layer != last} or {last: len(by_layer[last])}
    (number, *others), k = set(counts.values()), shape.top_k
    if others or number % k or len(by_layer[last]) not in (number, k):
        raise TraceError(f"the layers of a batch have unequal rows, or no multiple of {k}; is the file cut off?")
    ids = np.full((number // k, len(by_layer), k), UNKNOWN, np.int64)
    for index, layer in enumerate(shape.moe_layers):
        rows = by_layer[layer].reshape(-1, k)
        ids[len(ids) - len(rows) :, index] = rows
    return ids


def _is_ranking(batch: np.ndarray, num_experts: int) -> bool:
    """Return whether no layer repeats an expert, although repetitions would be almost certain by chance."""
    flat = [ids[ids >= 0][:num_experts] for ids in batch[:, :-1].transpose(1, 0, 2)]
    distinct = all(len(np.unique(ids)) == len(ids) for ids in flat)
    return distinct and _chance_of_distinct(batch, num_experts) < 1e-3


def _chance_of_distinct(batch: np.ndarray, num_experts: int) -> float:
    """Return the probability that fair routing repeats no expert among the first tokens, in all layers but the last."""
    tokens, layers, k = batch.shape
    chance = 1.0
    for token in range(1, min(tokens, num_experts // k)):
        free = num_experts - token * k
        chance *= float(np.prod((free - np.arange(k)) / (num_experts - np.arange(k))))
    return chance ** max(1, layers - 1)
