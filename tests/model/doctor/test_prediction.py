"""A model that predicts no better than a guess is a warning; one that was never trained is a note."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from model.checkpoint.embedded import embedded_models
from model.doctor import prediction
from model.doctor.findings import NOTE, WARNING, Finding
from model.doctor.prediction import check_prediction, mean_surprisal, spread_of_norms
from model.doctor.prompts import own_prompts
from model.doctor.text import _requests
from model.run.engine import Engine
from model.trace.trace import Trace
from tests.models import random_model, tiny_config
from tests.traces import random_trace


def surprised(nats: float) -> list[Trace]:
    """Traces of at least 50 tokens with one surprisal."""
    trace = random_trace(num_prompt=40, num_new=30)
    logprob = np.full(trace.num_tokens, -nats, np.float32)
    logprob[0] = np.nan
    return [dataclasses.replace(trace, data=trace.data.assign(logprob=("token", logprob)))]


def trained() -> torch.Tensor:
    """An embedding of 100 rows whose norms spread far, as those of a trained model do."""
    rows = torch.randn(100, 64, generator=torch.Generator().manual_seed(0))
    return rows * torch.linspace(0.5, 2, 100)[:, None]


def found(nats: float, embedding: torch.Tensor) -> list[Finding]:
    return list(check_prediction(surprised(nats), embedding))


def test_the_mean_is_over_tokens_of_text_that_have_a_predecessor() -> None:
    surprisal, number = mean_surprisal(surprised(2.5))
    (trace,) = surprised(2.5)
    assert (surprisal, number) == (pytest.approx(2.5), int((~trace.special_mask.values)[1:].sum()))


def test_a_guess_is_a_warning_and_less_is_healthy() -> None:
    (finding,) = found(math.log(100), trained())
    assert (finding.severity, finding.evidence["of a guess"]) == (WARNING, pytest.approx(math.log(100)))
    assert [f.severity for f in found(30.0, trained())] == [WARNING]
    assert found(0.85 * math.log(100), trained()) == []
    assert found(math.nan, trained()) == []


def test_a_model_that_was_never_trained_gets_a_note() -> None:
    embedding = random_model(tiny_config()).embedding.weight
    assert spread_of_norms(embedding) == pytest.approx(1, abs=0.2)
    assert [f.severity for f in found(math.log(320), embedding)] == [NOTE]


def test_the_calibration_in_the_docstring_is_measured() -> None:
    shares, spreads = [], []
    for name in embedded_models():
        engine = Engine.load(name, device="cpu")
        traces = [engine.run(request) for request in _requests(engine, own_prompts())]
        shares.append(mean_surprisal(traces)[0] / math.log(engine.config.vocab_size))
        spreads.append(spread_of_norms(engine.model.embedding.weight))
    text = " ".join((prediction.__doc__ or "").split())
    assert f"have {min(shares):.2f} to {max(shares):.2f} of that" in text
    assert f"spread {min(spreads):.1f} times as far" in text
