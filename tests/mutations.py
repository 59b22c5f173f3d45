"""Seeded mutations of files: bytes, values of JSON, and headers of safetensors."""

import json
import random
from typing import Any

from tests.engines import as_json

HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**40, 1.5, float("nan"), float("inf"), "", "x", "\ud800", "\x1b[31m", [], {},
    [[]], [[[]]], [None], [1, "2"], {"a": 1}, [[1], [2, 3]], "k05VTVBZAQA=", "AAAA", 1 << 20, 16, [float("nan")],
)  # fmt: skip
HEADERS = (
    b"{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999, 4, 4), }", b"{'descr': 'O', 'shape': (1,)}",
    b"(" * 90, b"'\\x'", b"{'descr': '<i8', 'fortran_order': False, 'shape': (-6, -4, 4), }", b"\xff\xfe",
)  # fmt: skip


def of_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, drop or overwrite bytes."""
    at, length = rng.randrange(len(content)), rng.randint(1, 40)
    kind = rng.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[at + length :]
    if kind == 2:
        return content[: at + length] + content[at:]
    if kind == 3:
        return content[:at] + rng.randbytes(length) + content[at + length :]
    if kind == 4:
        return content[:at] + rng.choice(HEADERS) + content[at + len(HEADERS[0]) :]
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def of_tree(value: Any, rng: random.Random) -> Any:
    """Replace, drop, repeat or rename one value, at any depth."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        if rng.random() < 0.15:
            return {key: entry for key, entry in value.items() if key != name}
        return value | {name: of_tree(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:at] if rng.random() < 0.5 else [*value, value[at]]
        return [*value[:at], of_tree(value[at], rng), *value[at + 1 :]]
    return rng.choice(HOSTILE)


def of_header(content: bytes, rng: random.Random) -> bytes:
    """Replace values in the JSON header of a safetensors file; the data stay."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(of_tree(json.loads(content[8 : 8 + size]), rng)).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def mutated(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return of_bytes(content, rng)
    if content[:1] == b"{" and b"}\n{" not in content:
        return as_json(of_tree(json.loads(content), rng))
    return of_header(content, rng) if content[8:9] == b"{" else of_bytes(content, rng)
