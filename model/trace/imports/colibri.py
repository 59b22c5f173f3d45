"""What colibri keeps of its routing: the usage history `.coli_usage`, and the stream ROUTE_TRACE.

The usage history counts selections, `layer expert count` in each line. Two headers come first: `-1 layers experts` and
`-2 version engine`, where the engine is a hash of its name; older files have none. The engine inkling writes the same
counts as uint32 after the magic number "IKU1", layers and experts. Row `layers` belongs to the prediction module. The
history adds up over runs, and with COLI_USAGE_DECAY old selections fade.

ROUTE_TRACE has a line `call row layer id:weight ...` for each token of each call of a MoE layer. A call is one layer of
one forward pass, so passes begin where the layer number falls. The stream has no token ids, and no mark where a run
begins.

Source: `c/route_trace.h` of github.com/JustVugg/colibri at commit 003a0b9.
"""

import re

import numpy as np

from model.trace import limits
from model.trace.imports.building import Named, StatedShape, Words, routed_slots, traced
from model.trace.imports.counts import Counts, counted
from model.trace.trace import Trace, TraceError

MAGIC = b"IKU1"
_VERSION = 1
_ENGINES = ("glm_moe_dsa", "inkling", "olmoe", "kimi_k3", "glm53")
_USAGE = re.compile(rb"(-?\d{1,9}) (\d{1,9}) (\d{1,10})\r?")
_ROUTE = re.compile(rb"\d{1,9} \d{1,9} \d{1,4}((?: \d{1,5}:-?\d{1,6}\.\d{4})+)\r?")
_KEPT = "colibri adds its counts up over runs; with COLI_USAGE_DECAY they fade"
MISSING = {
    "scores, bias and groups": "ROUTE_TRACE has only the chosen experts and their weights",
    "tokens and text": "ROUTE_TRACE does not hold them",
    "probabilities of tokens": "ROUTE_TRACE does not hold them",
    "attention": "ROUTE_TRACE does not hold it",
}


def is_usage(content: bytes) -> bool:
    """Return whether the bytes look like a usage history."""
    return content.startswith(MAGIC) or _USAGE.fullmatch(content[:200].split(b"\n")[0]) is not None


def is_routes(content: bytes) -> bool:
    """Return whether the bytes look like a ROUTE_TRACE stream."""
    return _ROUTE.fullmatch(content[:4000].split(b"\n")[0]) is not None


def read_usage(content: bytes, named: Named) -> Counts:
    """Return the counts of a usage history.

    Raises:
        TraceError: a line is not three whole numbers, or the counts do not fit the model.
    """
    shape = named.shape
    program, by_layer = _dense(content, shape) if content.startswith(MAGIC) else _lines(content, shape)
    notes = [_KEPT]
    if _has_module(named) and by_layer.pop(shape.num_layers, np.zeros(0)).any():
        notes.append(f"L{shape.num_layers}, the prediction module, is left out")
    return counted(by_layer, named, program, "colibri usage history", notes)


def _dense(content: bytes, shape: StatedShape) -> tuple[str, dict[int, np.ndarray]]:
    """Return the program and the counts by layer, [1, expert] each, of a binary history."""
    numbers = np.frombuffer(content[: len(content) // 4 * 4], "<u4")
    num_layers, num_experts = numbers[1:3].tolist() if len(numbers) >= 3 else (0, 0)
    _check_size(num_layers, num_experts, shape)
    if len(content) != 12 + 4 * num_layers * num_experts:
        raise TraceError(f"the file has {len(content):,} bytes, not those of {num_layers} x {num_experts} counts")
    rows = numbers[3:].reshape(num_layers, 1, num_experts).astype(np.int64)
    return "colibri (inkling)", dict(enumerate(rows))


def _lines(content: bytes, shape: StatedShape) -> tuple[str, dict[int, np.ndarray]]:
    """Return the program and the counts by layer, [1, expert] each, of a history in lines."""
    limits.check_count_lines(content)
    program, by_layer = "colibri", {}
    seen: set[tuple[int, int]] = set()
    for index, line in enumerate(content.removesuffix(b"\n").split(b"\n")):
        match = _USAGE.fullmatch(line)
        if match is None:
            raise TraceError(f"line {index + 1} is {_shown(line)}, not a layer, an expert and a count")
        layer, expert, count = map(int, match.groups())
        if layer == -1:
            _check_size(expert, count, shape)
        elif layer == -2:
            program = _program(expert, count)
        elif layer >= 0:
            if expert >= shape.num_experts or layer > shape.num_layers:
                raise TraceError(
                    f"line {index + 1} counts expert {expert} of L{layer}; the model named has {shape.num_layers} "
                    f"layers and {shape.num_experts} experts"
                )
            if (layer, expert) in seen:
                raise TraceError(f"line {index + 1} counts expert {expert} of L{layer} again")
            seen.add((layer, expert))
            by_layer.setdefault(layer, np.zeros((1, shape.num_experts), np.int64))[0, expert] = count
    return program, by_layer


def _has_module(named: Named) -> bool:
    """Return whether the model has a prediction module, which colibri numbers as the layer after the last one."""
    number = named.config.get("num_nextn_predict_layers")
    return isinstance(number, int) and number > 0


def _check_size(num_layers: int, num_experts: int, shape: StatedShape) -> None:
    if (num_layers, num_experts) != (shape.num_layers, shape.num_experts):
        raise TraceError(
            f"the file counts {num_experts} experts in {num_layers} layers; the model named has {shape.num_experts} in "
            f"{shape.num_layers}"
        )


def _program(version: int, engine: int) -> str:
    """Return the name of the engine that wrote a history, from the hash of its name."""
    if version > _VERSION:
        raise TraceError(f"the usage history is of version {version}; only {_VERSION} is known here")
    return next((f"colibri ({name})" for name in _ENGINES if _fnv1a(name) == engine), "colibri")


def _fnv1a(text: str) -> int:
    """Return the 32-bit FNV-1a hash of a text.

    >>> hex(_fnv1a("a"))
    '0xe40c292c'
    """
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


def read_routes(content: bytes, named: Named) -> Trace:
    """Return the trace of a ROUTE_TRACE stream.

    Raises:
        TraceError: a line is damaged, or the lines do not fit the model.
    """
    shape = named.shape
    table = _table(content, shape.top_k)
    module = (table[:, 2] == shape.num_layers) & _has_module(named)
    passes = [_pass(rows, shape) for rows in _split(table[~module])]
    ids = np.concatenate([ids for ids, _ in passes])
    weights = np.concatenate([weights for _, weights in passes])
    if not weights.any():
        raise TraceError("every weight of the file is 0: the engine recorded nothing")
    order = np.argsort(-weights, axis=-1, kind="stable")
    ids, weights = np.take_along_axis(ids, order, -1), np.take_along_axis(weights, order, -1)
    limits.check_tokens(len(ids))
    prompt = max((index + 1 for index, (rows, _) in enumerate(passes) if len(rows) > 1), default=1)
    num_prompt = sum(len(rows) for rows, _ in passes[:prompt])
    words = Words(num_prompt=num_prompt, num_new=len(ids) - num_prompt)
    notes = [
        "the file does not say where a run begins; all its tokens count as one run",
        "tokens up to the last pass of several count as prompt; the file does not say",
        *(["the rows of the prediction module are left out"] if module.any() else []),
    ]
    ids = routed_slots(ids, shape, "the file")
    return traced(named, words, ids, "colibri", "colibri ROUTE_TRACE", MISSING, notes, weights)


def _table(content: bytes, top_k: int) -> np.ndarray:
    """Return the numbers of all lines, float64 [line, 3 + 2 x top_k]: call, row, layer, then pairs of id and weight."""
    limits.check_csv(content)
    if not content.endswith(b"\n"):
        raise TraceError("the file does not end with a line's end; is it cut off?")
    for index, line in enumerate(content[:-1].split(b"\n")):
        match = _ROUTE.fullmatch(line)
        if match is None:
            raise TraceError(f"line {index + 1} is {_shown(line)}, not a call, a row, a layer and experts")
        if match[1].count(b":") != top_k:
            raise TraceError(
                f"line {index + 1} has {match[1].count(b':')} experts; the model named takes {top_k} (another model, "
                "or was top-p on?)"
            )
    numbers = np.fromstring(content.replace(b":", b" ").decode(), np.float64, sep=" ")
    return numbers.reshape(-1, 3 + 2 * top_k)


def _split(table: np.ndarray) -> list[np.ndarray]:
    """Return the lines of each forward pass; a pass begins where the layer of a call does not rise."""
    call, row, layer = table[:, :3].T
    last_call, last_row, last_layer = (np.r_[-1, values[:-1]] for values in (call, row, layer))
    begins = call > last_call
    in_order = np.where(begins, row == 0, (call == last_call) & (row == last_row + 1) & (layer == last_layer))
    if not in_order.all():
        raise TraceError(f"the rows of call {int(call[in_order.argmin()])} are not in order, or name two layers")
    starts = np.flatnonzero(begins & (layer <= last_layer))
    limits.check_batches(len(starts) + 1)
    return np.split(table, starts)


def _pass(table: np.ndarray, shape: StatedShape) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids and weights of one forward pass, [token, moe_layer, slot] each."""
    rows, rest = divmod(len(table), len(shape.moe_layers))
    if not rows or rest or (table[:, 2] != np.repeat(shape.moe_layers, rows)).any():
        layers = np.unique(table[:, 2]).astype(int).tolist()
        raise TraceError(
            f"a forward pass has {len(table)} lines in the layers {str(layers):.60}; the model named has experts in "
            f"{shape.moe_layers[0]} to {shape.moe_layers[-1]}, and each token a line in each (is the file cut off?)"
        )
    pairs = table[:, 3:].reshape(len(shape.moe_layers), rows, shape.top_k, 2).transpose(1, 0, 2, 3)
    return pairs[..., 0].astype(np.int64), pairs[..., 1]


def _shown(line: bytes) -> str:
    return f"{line[:60].decode('utf-8', 'backslashreplace')!r:.80}"
