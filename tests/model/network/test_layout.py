"""The memory layout for decoding changes strides and nothing else."""

import copy

import pytest
import torch

from model.network.layout import lay_out_for_decoding
from tests.closeness import ROUNDING, relative_error
from tests.models import random_model, tiny_config


@pytest.fixture(autouse=True)
def _wide_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_values_and_outputs_stay(tie_embeddings: bool) -> None:
    plain = random_model(tiny_config(tie_embeddings=tie_embeddings))
    laid_out = lay_out_for_decoding(copy.deepcopy(plain))
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, laid_out.get_parameter(name)), name
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        assert relative_error(laid_out(ids), plain(ids)) <= ROUNDING


def test_matrices_lie_input_major_and_the_embedding_does_not() -> None:
    model = lay_out_for_decoding(random_model(tiny_config(tie_embeddings=True)))
    assert model.blocks[0].attention.output.weight.mT.is_contiguous()
    assert model.experts()[0].down.mT.is_contiguous()
    assert model.head is not None
    assert model.head.weight.mT.is_contiguous()
    assert model.embedding.weight.is_contiguous()


def test_other_dtypes_are_left_alone() -> None:
    model = random_model(tiny_config(tie_embeddings=True)).to(torch.bfloat16)
    assert lay_out_for_decoding(model).head is None


def test_other_processors_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    model = lay_out_for_decoding(random_model(tiny_config(tie_embeddings=True)))
    assert model.head is None
    assert model.blocks[0].attention.output.weight.is_contiguous()
