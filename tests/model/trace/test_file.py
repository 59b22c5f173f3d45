import contextlib
import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from model.trace.file import dumps, load, loads, save
from model.trace.router_rule import RouterRule
from model.trace.shape import RouterFacts
from model.trace.trace import Token, Trace, TraceError
from tests.model.trace.test_router_rule import rules
from tests.model.trace.test_trace import same, single_token
from tests.traces import family_trace, random_trace


@given(seed=st.integers(0, 99), num_prompt=st.integers(1, 6), num_new=st.integers(0, 4))
def test_file_gives_back_the_trace(seed: int, num_prompt: int, num_new: int) -> None:
    trace = random_trace(seed, num_prompt, num_new)
    assert same(loads(dumps(trace)), trace)


@given(rule=rules() | st.none(), seed=st.integers(0, 99), data=st.data())
def test_file_gives_back_the_router_of_any_family(rule: RouterRule | None, seed: int, data: st.DataObject) -> None:
    table_layers = data.draw(st.sets(st.integers(0, 2)))
    trace = family_trace(rule, seed, num_prompt=2, num_new=1, table_layers=tuple(sorted(table_layers)))
    again = loads(dumps(trace))
    assert same(again, trace)
    assert again.shape == trace.shape
    assert again.router is not None
    assert again.router == RouterFacts(
        rule=rule, table_layers=tuple(sorted(table_layers)), block_factor=1.0,
        note=None if rule else "no rule gives the recorded experts",
    )  # fmt: skip


def test_text_that_is_no_utf8_survives(tmp_path) -> None:  # noqa: ANN001
    trace = Trace(single_token(), (Token(0, "Ã", 0, 1, False),), b"\xc3", {}, {}, {})
    save(trace, tmp_path / "half.safetensors")
    assert load(tmp_path / "half.safetensors").text == b"\xc3"
    assert [path.name for path in tmp_path.iterdir()] == ["half.safetensors"]


def test_missing_folder_is_refused_and_not_made(tmp_path) -> None:  # noqa: ANN001
    with pytest.raises(TraceError, match="does not exist; make it first"):
        save(random_trace(), tmp_path / "absent" / "run.safetensors")
    assert not (tmp_path / "absent").exists()


def test_failed_write_leaves_nothing_behind(tmp_path, monkeypatch) -> None:  # noqa: ANN001
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(random_trace(), tmp_path / "run.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("key", "message"), [("format", "not a MoE Loupe trace"), ("version", "has version 'other'")])
def test_other_formats_and_versions_are_refused(key: str, message: str) -> None:
    arrays = {"token_id": np.zeros(1, np.int32)}
    metadata = {"format": "moe-loupe-trace", "version": "1"} | {key: "other"}
    with pytest.raises(TraceError, match=message):
        loads(safetensors.numpy.save(arrays, metadata))


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04K\x01.", b"\xff" * 64, b"PK\x03\x04" + bytes(60)])
def test_foreign_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(TraceError, match="not a MoE Loupe trace file"):
        loads(content)


BOTTOMLESS = "[" * 100_000 + "]" * 100_000


COORDS = {"layer": [0, 1, 2], "moe_layer": [1, 2], "attention_layer": [0, 1, 2], "head": [0, 1]}


TOKENS = {"text": "", "token": [[0, "a", 0, 0, False]] * 10}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("request", BOTTOMLESS, "damaged: maximum recursion depth"),
        ("request", "NaN", "request must be a JSON object"),
        ("dims", "{", "damaged"),
        ("dims", "{}", "damaged: '.*' is missing"),
        ("dims", '{"token_id": [["token"]]}', "damaged"),
        ("coords", json.dumps(COORDS | {"layer": ["x", "y", "z"]}), "layer axis must be ascending"),
        ("coords", '{"layer": [0, 1]}', "damaged"),
        ("tokens", json.dumps(TOKENS | {"token": ["abcde"] * 10}), "a token must be"),
        ("tokens", json.dumps(TOKENS | {"token": [[0.0, "a", 0, 0, False]] * 10}), "a token must be"),
        ("tokens", json.dumps(TOKENS | {"text": "é"}), "damaged"),
        ("tokens", json.dumps(TOKENS | {"token": [[0, "\ud800", 0, 0, False]] * 10}), "surrogates not allowed"),
        ("version", "9" * 100_000, "has version '9"),
    ],
)
def test_hostile_metadata_is_refused_in_one_line(key: str, value: str, message: str) -> None:
    with pytest.raises(TraceError, match=message) as refusal:
        loads(with_metadata(key, value))
    assert len(str(refusal.value)) < 300
    assert "\n" not in str(refusal.value)


def with_metadata(key: str, value: str) -> bytes:
    """A trace file in which one metadata value was exchanged."""
    content = dumps(random_trace())
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"][key] = value
    changed = json.dumps(header).encode()
    return len(changed).to_bytes(8, "little") + changed + content[end:]


@given(data=st.data())
def test_damage_never_gives_anything_but_a_trace_error(data: st.DataObject) -> None:
    content = bytearray(dumps(random_trace()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 4000) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    with contextlib.suppress(TraceError):
        loads(bytes(content[:end]))


def test_header_that_claims_too_much_is_refused() -> None:
    header = json.dumps(
        {
            "__metadata__": {"format": "moe-loupe-trace", "version": "1"},
            "token_id": {"dtype": "I32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]},
        }
    ).encode()
    with pytest.raises(TraceError, match="damaged"):
        loads(len(header).to_bytes(8, "little") + header + bytes(16))


@pytest.mark.parametrize("config", [None, 5, "v3", ["n_group"]])
def test_configuration_that_is_no_object_reads_as_empty(config: object) -> None:
    trace = random_trace()
    assert trace.config["n_group"] == 4
    assert loads(dumps(dataclasses.replace(trace, model={"name": "x", "config": config}))).config == {}
    assert dataclasses.replace(trace, model={"name": "x"}).config == {}


@pytest.mark.parametrize("stated", [{}, {"interventions": None}, {"interventions": 5}])
def test_request_that_states_no_interventions_reads_as_none(stated: dict) -> None:
    assert list(dataclasses.replace(random_trace(), request=stated).interventions) == []
    change = {"kind": "KnockOut", "layer": 1, "expert": 0}
    assert list(dataclasses.replace(random_trace(), request={"interventions": [change]}).interventions) == [change]
