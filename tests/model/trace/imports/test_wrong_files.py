"""Files that are no recording are named, with what to do."""

import io
import json

import numpy as np
import pytest

from model.trace.imports.formats import read
from model.trace.trace import TraceError
from tests import engines
from tests.engines import TINY, as_json, npy

ANSWER = engines.vllm_npy(engines.random_ids())


def refused(content: bytes, form: str = "auto") -> str:
    with pytest.raises(TraceError) as caught:
        read(content, form, TINY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_archive_of_arrays_is_no_pickle() -> None:
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, routed_experts=engines.random_ids())
        message = refused(stream.getvalue())
        assert "this is a NumPy .npz archive; save its array by itself" in message
        assert "pickle" not in message


def test_an_answer_without_routing_names_the_flag() -> None:
    for change in ({"routed_experts": None}, {}):
        choice = {name: value for name, value in ANSWER["choices"][0].items() if name != "routed_experts"} | change
        for form in ("auto", "vllm"):
            message = refused(as_json(ANSWER | {"choices": [choice]}), form)
            assert message.startswith(
                "the answer has no routed_experts; start vLLM with --enable-return-routed-experts"
            )
    native = engines.sglang_generate(engines.random_ids())
    del native["meta_info"]["routed_experts"]
    assert refused(as_json(native)).startswith("the answer has no routed_experts; start SGLang with --enable-return")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"data: " + as_json(ANSWER) + b"\n\ndata: [DONE]\n", "stream of events; send the request without stream"),
        (as_json(ANSWER) + b"\n" + as_json(ANSWER), "another value begins in line 2; save one answer"),
        (as_json([ANSWER, ANSWER]), "a list of 2 answers; save one"),
        (str(ANSWER).encode(), "how Python prints a value"),
        (as_json({"error": {"message": "no such model"}}), "an error of the engine"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF model"),
        (b"\x1f\x8b\x08\x00", "compressed by gzip"),
        (b"PAR1\x15\x04", "is Parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git-LFS pointer"),
    ],
)
def test_each_kind_is_named(content: bytes, message: str) -> None:
    assert message in refused(content)


def test_a_broken_request_is_named_as_such() -> None:
    with pytest.raises(TraceError, match="the request is not whole JSON"):
        read(as_json(ANSWER), "auto", TINY, b'{"prompt": ')


def header(text: bytes) -> bytes:
    padded = text + b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': '<i8', 'fortran_order': False, 'shape': (1,",
        b"os.system('true')",
        b"{'descr': '<i8', 'fortran_order': False, 'shape': (-1, -4, 4), }",
        b"{'descr': '<i8', 'fortran_order': False, 'shape': (" + b"9" * 60 + b",), }",
        b"{'descr': '<i8', 'fortran_order': 7, 'shape': (2, 4, 4), }",
        b"{'descr': '<i8', 'fortran_order': False, 'shape': (2L, 4L, 4L), }",
        b"{'descr': '|V0', 'fortran_order': False, 'shape': (2, 4, 4), }",
        b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (2, 4, 4), }",
        b"'" * 40,
        b"(" * 100,
        b"\\d\x00",
        b"1 if",
        b"",
    ],
)
def test_headers_of_npy_that_lie_are_one_line(text: bytes, recwarn: pytest.WarningsRecorder) -> None:
    assert refused(header(text) + b"\0" * 64).startswith("the file ")
    assert not recwarn.list
    assert "routed_experts" in refused(
        json.dumps({"choices": [{"routed_experts": engines.coded(header(text) + b"\0" * 64)}]}).encode()
    )


def test_a_good_array_is_read_whatever_its_order_and_type() -> None:
    ids = engines.random_ids()
    for array in (ids.astype(">i4"), np.asfortranarray(ids), ids.astype("uint8")):
        trace = read(npy(array), "auto", TINY)
        assert np.array_equal(trace.data["expert_id"].values[:-1], ids)
