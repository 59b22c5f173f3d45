"""The wire format, read by a reader that was written from the format's description, not from the writer's code."""

import base64
import json
import re
import struct
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.trace.router_rule import RouterRule
from viz.lens import wire

HEADER = wire.Header(
    run=7,
    moe_layers=(1, 2),
    layout=RouterRule(num_experts=8, num_groups=4, num_kept_groups=2, top_k=2),
    attention_layers=(0, 1, 2),
    heads=(0, 3),
)


@dataclass(frozen=True)
class Word:
    id: int
    start: int
    end: int
    generated: bool = False
    special: bool = False
    piece: str = ""


def make_run(num_tokens: int, seed: int = 0) -> tuple[list[Word], bytes, dict[str, np.ndarray]]:
    """Return a special token, then words of one to three bytes, and arrays of a trace."""
    rng = np.random.default_rng(seed)
    lengths = [0, *rng.integers(1, 4, num_tokens - 1).tolist()]
    ends = np.cumsum(lengths).tolist()
    words = [Word(10 + i, ends[i] - lengths[i], ends[i], i >= 2, i == 0) for i in range(num_tokens)]
    attention = np.tril(rng.dirichlet(np.ones(num_tokens), (3, 2, num_tokens)))
    logprob = -rng.exponential(2, num_tokens)
    logprob[0] = np.nan
    arrays = {
        "logprob": logprob.astype("f4"),
        "expert_id": rng.integers(0, 8, (num_tokens, 2, 2)).astype("i2"),
        "gate_weight": rng.uniform(0, 2.5, (num_tokens, 2, 2)).astype("f4"),
        "group_kept": rng.random((num_tokens, 2, 4)) < 0.5,
        "router_score": rng.random((num_tokens, 2, 8)).astype("f4"),
        "attention": attention.astype("f4"),
    }
    return words, rng.bytes(ends[-1]), arrays


def cut(arrays: dict[str, np.ndarray], start: int, end: int) -> dict[str, np.ndarray]:
    """Return the part of one step of a run."""
    part = {name: values[start:end] for name, values in arrays.items() if name != "attention"}
    return part | {"attention": arrays["attention"][:, :, start:end, :end]}


def read(message: bytes) -> tuple[dict, list[dict]]:
    (length,) = struct.unpack_from("<I", message)
    header, at, blocks = json.loads(message[4 : 4 + length]), 4 + length, []
    while at < len(message):
        block = read_block(message[at:], header)
        blocks.append(block)
        at += block["size"]
    return header, blocks


def read_block(raw: bytes, header: dict) -> dict:
    size, start, n, present, text_length, names_length = struct.unpack_from("<6I", raw)
    offset, block = 24, {"size": size, "start": start, "n": n}

    def take(dtype: str, *shape: int) -> np.ndarray:
        nonlocal offset
        assert offset % 4 == 0
        values = np.frombuffer(raw, dtype, int(np.prod(shape)), offset).reshape(shape)
        offset += -(-values.nbytes // 4) * 4
        return values

    layers, experts, k = len(header["moe_layers"]), header["num_experts"], header["top_k"]
    per_key = len(header["attention_layers"]) * len(header["heads"])
    block |= {"id": take("<i4", n), "from": take("<u4", n), "to": take("<u4", n), "bits": take("<f4", n)}
    if present & 1:
        block |= {"weight": take("<f4", n, layers, k), "expert": take("<i2", n, layers, k)}
    if present & 2:
        packed = take("u1", n, layers, -(-header["num_groups"] // 8))
        block["kept"] = np.array(
            [
                [[packed[i, m, g // 8] >> g % 8 & 1 for g in range(header["num_groups"])] for m in range(layers)]
                for i in range(n)
            ]
        ).astype(bool)
    if present & 4:
        block["score"] = take("u1", n, layers, experts)
    if present & 8:
        rows = [take_row(raw, offset, per_key, start, i) for i in range(n)]
        take("u1", sum(row.size for row in rows))
        block["attention"] = [row.reshape(len(header["attention_layers"]), len(header["heads"]), -1) for row in rows]
    block["flags"] = take("u1", n)
    block["text"] = take("u1", text_length).tobytes()
    block["names"] = json.loads(take("u1", names_length).tobytes())
    assert offset == size
    return block


def take_row(raw: bytes, offset: int, per_key: int, start: int, i: int) -> np.ndarray:
    before = per_key * sum(start + j + 1 for j in range(i))
    return np.frombuffer(raw, "u1", per_key * (start + i + 1), offset + before)


def test_affinities_above_one_are_shown_relative_to_the_largest() -> None:
    """DeepSeek-V4's affinities have no upper limit: 4 becomes the darkest, 1 a quarter of it, whose root is a half."""
    arrays = {"router_score": np.array([[[4.0, 1.0, 0.0]], [[0.25, 1.0, np.nan]]], "f4")}
    block = wire.pack_block(0, make_run(2)[0], b"abc", arrays)
    first, second = bytes([255, 128, 0]), bytes([128, 255, 0])
    assert first + second in block


def test_snapshot_says_everything_exactly_that_is_read_as_a_number() -> None:
    words, text, arrays = make_run(5)
    header, (block,) = read(wire.snapshot(HEADER, words, text, arrays))
    assert (header["run"], header["moe_layers"], header["heads"], header["running"]) == (7, [1, 2], [0, 3], False)
    assert block["id"].tolist() == [10, 11, 12, 13, 14]
    assert [(int(a), int(b)) for a, b in zip(block["from"], block["to"], strict=True)] == [
        (w.start, w.end) for w in words
    ]
    assert block["flags"].tolist() == [1, 0, 2, 2, 2]
    assert block["text"] == text
    np.testing.assert_array_equal(block["expert"], arrays["expert_id"])
    np.testing.assert_array_equal(block["weight"], arrays["gate_weight"])
    np.testing.assert_array_equal(block["kept"], arrays["group_kept"])


def test_special_tokens_travel_with_their_names_in_order() -> None:
    words = [
        Word(0, 0, 0, special=True, piece="<｜begin▁of▁sentence｜>"),
        Word(5, 0, 2),
        Word(3, 2, 2, special=True, piece="<｜User｜>"),
    ]
    _, (block,) = read(wire.snapshot(HEADER, words, b"ab"))
    assert block["names"] == ["begin of sentence", "User"]
    assert block["flags"].tolist() == [1, 0, 1]


def test_surprisal_is_in_bits_and_unknown_for_the_first_token() -> None:
    words, text, arrays = make_run(3)
    arrays["logprob"] = np.array([np.nan, np.log(1 / 8), np.log(1 / 2)], "f4")
    _, (block,) = read(wire.snapshot(HEADER, words, text, arrays))
    assert np.isnan(block["bits"][0])
    np.testing.assert_allclose(block["bits"][1:], [3, 1], rtol=1e-6)


@pytest.mark.parametrize("cuts", [(0, 6), (0, 3, 4, 5, 6), (0, 1, 6)])
def test_steps_hold_the_same_as_the_whole(cuts: tuple[int, ...]) -> None:
    words, text, arrays = make_run(6)
    blocks = b"".join(
        wire.pack_block(a, words[a:b], text[: words[b - 1].end], cut(arrays, a, b))
        for a, b in zip(cuts, cuts[1:], strict=False)
    )
    _, steps = read(wire.pack_header(HEADER) + blocks)
    _, (whole,) = read(wire.snapshot(HEADER, words, text, arrays))
    assert [step["start"] for step in steps] == list(cuts[:-1])
    for name in ("id", "expert", "weight", "kept", "score", "flags"):
        np.testing.assert_array_equal(np.concatenate([step[name] for step in steps]), whole[name])
    assert b"".join(step["text"] for step in steps) == whole["text"]
    rows = [row for step in steps for row in step["attention"]]
    for index, row in enumerate(rows):
        assert row.shape == (3, 2, index + 1)
        np.testing.assert_array_equal(row, wire.compand(arrays["attention"][:, :, index, : index + 1]))


def test_what_a_run_lacks_is_left_out() -> None:
    words, text, arrays = make_run(4)
    _, (block,) = read(
        wire.snapshot(HEADER, words, text, {"expert_id": arrays["expert_id"], "gate_weight": arrays["gate_weight"]})
    )
    assert {"score", "kept", "attention"}.isdisjoint(block)
    assert np.isnan(block["bits"]).all()
    assert read(wire.snapshot(HEADER))[1] == []


@given(st.lists(st.floats(0, 1), min_size=1))
def test_companding_keeps_small_values_apart(values: list[float]) -> None:
    exact = np.array(values)
    seen = (wire.compand(exact) / 255.0) ** 2
    assert np.abs(seen - exact).max() <= 1 / 255
    assert (seen[exact >= 1e-4] > 0).all()
    np.testing.assert_array_equal(seen[exact == 0], 0)


def test_companding_keeps_out_of_range_values_in_range() -> None:
    assert wire.compand(np.array([np.nan, -1.0, 2.0, 1.0, 0.25])).tolist() == [0, 0, 255, 255, 128]


def packed_run(num_tokens: int) -> list[bytes]:
    words, text, arrays = make_run(num_tokens)
    return [wire.pack_block(i, words[i : i + 1], text, cut(arrays, i, i + 1)) for i in range(num_tokens)]


def unpack_tick(element: str) -> tuple[str, list[int]]:
    found = re.fullmatch(r'<i hidden data-lens-tick="([\d.]+)" data-lens="([A-Za-z0-9+/=]+)"></i>', element)
    assert found
    return found[1], [block["start"] for block in read(base64.b64decode(found[2]))[1]]


def test_tick_carries_the_blocks_under_the_name_of_run_and_position() -> None:
    assert unpack_tick(wire.tick(HEADER, packed_run(60)[10:], 3)) == ("7.3", list(range(10, 60)))


def test_settings_go_before_the_message() -> None:
    message = wire.snapshot(HEADER)
    packed = wire.with_settings(message, view={"layer": 3, "colour": "é"}, palette={})
    (length,) = struct.unpack_from("<I", packed)
    assert json.loads(packed[4 : 4 + length]) == {"view": {"layer": 3, "colour": "é"}, "palette": {}}
    assert packed[4 + length :] == message
    assert (4 + length) % 4 == 0
