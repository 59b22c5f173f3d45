"""Two dtypes of one model: the engine at hand is one of them, the other is loaded where memory allows."""

import pytest
import torch

from model.doctor import precision
from model.doctor.precision import in_16_bits, in_fp32
from model.families.engine import TransformersEngine
from tests.families import saved


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine.load(saved("mixtral"), "cpu", "bfloat16")


def test_an_engine_in_bfloat16_is_the_rounded_one(engine: TransformersEngine) -> None:
    exact = in_fp32(engine)
    assert exact.dtype == torch.float32
    assert in_16_bits(engine, exact) is engine
    assert in_fp32(exact) is exact
    rounded = in_16_bits(exact, exact)
    assert rounded is not None
    assert rounded.dtype == torch.bfloat16


def test_without_room_for_a_second_copy_there_is_one_dtype(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "available_bytes", lambda: 1000)
    assert in_fp32(engine) is engine
    assert in_16_bits(engine, engine) is None
