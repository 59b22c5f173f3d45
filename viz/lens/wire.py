"""The binary messages that the lens reads: a whole run as a snapshot, or its next tokens while it is active.

A message is a header (length, then JSON) and blocks of consecutive tokens, each packed column by column without a
Python loop over experts or keys. All numbers are little-endian, and every column starts at a multiple of four bytes.
Values shown as numbers (ids, weights, surprisal) are exact; values shown only as pixels have eight bits.

A block starts with byte length, first token, number of tokens, columns present (bits of `Column`), bytes of text and
bytes of names, all uint32; then
    id int32[n], start uint32[n], end uint32[n], surprisal float32[n] in bits (NaN: unknown),
    weight float32[n, layer, rank] (NaN: unknown), expert int16[n, layer, rank] (-1: unknown)    if EXPERTS
    kept uint8[n, layer, groups / 8], the lowest bit first                if GROUPS
    score uint8[n, layer, expert], divided by the largest above 1         if SCORES
    attention uint8, per token [layer, head, keys up to itself, included] if ATTENTION
    flags uint8[n] (bits of `Flag`), the text that the tokens span,
    and the names of the special tokens in order, as a JSON list.
"""

import base64
import dataclasses
import enum
import html
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from viz.layout import Layout
from viz.tokens import MarkedToken, short_name

_BLOCK = struct.Struct("<6I")


class Column(enum.IntFlag):
    """The optional columns of a block."""

    EXPERTS = 1
    GROUPS = 2
    SCORES = 4
    ATTENTION = 8


class Flag(enum.IntFlag):
    """Kind of a token."""

    SPECIAL = 1
    GENERATED = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The axes of a run, which every message repeats.

    Attributes:
        run: number of the run, which grows within a session; the lens drops late messages of older runs.
        moe_layers: model layer numbers of the MoE layers.
        layout: layout of the router; top-k is 0 if no routing was recorded.
        attention_layers: model layer numbers of the layers with recorded attention.
        heads: numbers of the heads with recorded attention.
        running: whether more tokens will follow; while they do, the lens does not report the visitor's selections.
    """

    run: int
    moe_layers: tuple[int, ...]
    layout: Layout
    attention_layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    running: bool = False


def compand(values: np.ndarray) -> np.ndarray:
    """Return the square roots of numbers from 0 to 1 as uint8, off by at most 0.004; NaN becomes 0.

    The square root keeps small numbers apart.
    """
    return np.rint(255 * np.sqrt(np.nan_to_num(values).clip(0, 1))).astype(np.uint8)


def pack_header(header: Header) -> bytes:
    """Return the packed header of a message."""
    layout = header.layout
    sizes = {
        "num_experts": layout.num_experts,
        "num_groups": layout.num_groups,
        "kept_groups": layout.num_kept_groups,
        "top_k": layout.top_k,
    }
    fields = {name: getattr(header, name) for name in ("run", "moe_layers", "attention_layers", "heads", "running")}
    return _with_length(fields | sizes)


def pack_block(start: int, tokens: Sequence[MarkedToken], text: bytes, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the packed block of consecutive tokens.

    Args:
        start: index of the first token in the run.
        tokens: the tokens of the block.
        text: the run's text, at least up to the end of these tokens.
        arrays: variables of a trace for these tokens, with the axes of the trace. `attention` is [layer, head, query,
            key]: the queries are the block's tokens, the keys all tokens of the run up to the last query.
            Missing variables are left out.
    """
    spans = np.array([(token.id, token.start, token.end) for token in tokens], np.int64).reshape(-1, 3).T
    flags = [Flag.SPECIAL * token.special | Flag.GENERATED * token.generated for token in tokens]
    spanned = text[tokens[0].start : tokens[-1].end] if tokens else b""
    names = json.dumps([short_name(token) for token in tokens if token.special]).encode()
    columns, present = _columns(start, len(tokens), arrays)
    parts = [spans.astype("<i4"), _surprisal(arrays, len(tokens)), *columns, np.array(flags, np.uint8)]
    body = b"".join(map(_padded, [*parts, np.frombuffer(spanned, np.uint8), np.frombuffer(names, np.uint8)]))
    return _BLOCK.pack(_BLOCK.size + len(body), start, len(tokens), present, len(spanned), len(names)) + body


def snapshot(
    header: Header,
    tokens: Sequence[MarkedToken] = (),
    text: bytes = b"",
    arrays: Mapping[str, np.ndarray] | None = None,
) -> bytes:
    """Return a whole run as one message; without tokens, the message announces a run that is about to start."""
    return pack_header(header) + (pack_block(0, tokens, text, arrays or {}) if tokens else b"")


def tick(header: Header, blocks: Sequence[bytes], position: int) -> str:
    """Return the next tokens of an active run as one hidden HTML element, which the lens reads.

    Args:
        header: the run's axes.
        blocks: packed blocks that no earlier element contained.
        position: number of the element in its run; it grows, so that the lens reads each element once.
    """
    message = base64.b64encode(pack_header(header) + b"".join(blocks)).decode()
    name = html.escape(f"{header.run}.{position}")
    return f'<i hidden data-lens-tick="{name}" data-lens="{message}"></i>'


def with_settings(message: bytes, **settings: Any) -> bytes:
    """Return a message with JSON settings before it, as bytes: a component takes JSON or bytes, not both."""
    return _with_length(settings) + message


def _columns(start: int, count: int, arrays: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], Column]:
    columns, present = [], Column(0)
    if "expert_id" in arrays:
        ids = arrays["expert_id"].astype("<i2")
        columns += [arrays["gate_weight"].astype("<f4") if "gate_weight" in arrays else _unknown(ids), ids]
        present |= Column.EXPERTS
    if "group_kept" in arrays:
        columns.append(np.packbits(arrays["group_kept"], axis=-1, bitorder="little"))
        present |= Column.GROUPS
    if "router_score" in arrays:
        columns.append(compand(_up_to_one(arrays["router_score"])))
        present |= Column.SCORES
    if "attention" in arrays:
        columns.append(_causal(compand(arrays["attention"]), start, count))
        present |= Column.ATTENTION
    return columns, present


def _up_to_one(scores: np.ndarray) -> np.ndarray:
    """Return affinities from 0 to 1: those of a token and layer are divided by the largest if it is above 1."""
    return scores / np.nan_to_num(scores).max(-1, keepdims=True, initial=1)


def _unknown(ids: np.ndarray) -> np.ndarray:
    """Return NaN weights, in the shape of `ids`, for a run that recorded expert ids only."""
    return np.full(ids.shape, np.nan, "<f4")


def _causal(attention: np.ndarray, start: int, count: int) -> np.ndarray:
    """Return attention [layer, head, query, key] as one flat array, query by query, without the keys after a query."""
    by_query = attention.transpose(2, 0, 1, 3)
    visible = np.tri(count, start + count, start, dtype=bool)[:, None, None, :]
    return by_query[np.broadcast_to(visible, by_query.shape)]


def _surprisal(arrays: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    nats = -arrays["logprob"] if "logprob" in arrays else np.full(count, np.nan)
    return (nats / np.log(2)).astype("<f4")


def _padded(values: np.ndarray) -> bytes:
    raw = values.tobytes()
    return raw + bytes(-len(raw) % 4)


def _with_length(values: Mapping[str, Any]) -> bytes:
    plain = json.dumps(values).encode()
    plain += b" " * (-len(plain) % 4)
    return struct.pack("<I", len(plain)) + plain
