"""Planted faults against a reference are named at the first link of the chain that differs."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.doctor.findings import ERROR, NOTE, Finding
from model.doctor.text import examine_text
from model.run.engine import Engine
from tests.model.doctor.checkpoints import FP8, Tensors, configure, expert, plant, written
from tests.model.doctor.test_text import against, grave, traced
from tests.models import random_model, tiny_config

HEAD, NORM, EMBEDDING = "lm_head.weight", "model.norm.weight", "model.embed_tokens.weight"


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    return written(random_model(tiny_config()), tmp_path / "model")


def noise(tensors: Tensors, name: str) -> None:
    tensors[name] += torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(0))


def swap(tensors: Tensors, one: str, other: str) -> None:
    tensors[one], tensors[other] = tensors[other], tensors[one]


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        (lambda t: noise(t, HEAD), "", "all layers agree"),
        (lambda t: t[NORM].mul_(torch.linspace(0.5, 2, len(t[NORM]))), "", "all layers agree"),
        (lambda t: t["model.layers.2.self_attn.o_proj.weight"].mul_(1.5), "L2", "attention computes something else"),
        (lambda t: noise(t, "model.layers.3.self_attn.q_a_proj.weight"), "L3", "attention weighs other tokens"),
        (lambda t: t["model.layers.2.post_attention_layernorm.weight"].mul_(1.3), "L2", "16 of 16 affinities differ"),
        (lambda t: t["model.layers.2.mlp.gate.weight"][5].mul_(3), "L2E5", "1 router row gives other"),
        (
            lambda t: swap(t, expert(2, 3, "gate_proj"), expert(2, 3, "up_proj")),
            "L2E3",
            "gate_proj and up_proj are swapped",
        ),
    ],
)
def test_the_first_link_that_differs_is_named(
    healthy: Path, change: Callable[[Tensors], object], place: str, words: str
) -> None:
    (found,) = against(healthy, change)
    assert (found.severity, found.check, found.place) == (ERROR, "reference", place)
    assert words in found.what


def test_a_row_of_the_embedding_is_named(healthy: Path) -> None:
    token = traced(healthy).tokens[7].id
    first = next(place for place, one in enumerate(traced(healthy).tokens) if one.id == token)
    (found,) = against(healthy, lambda tensors: tensors[EMBEDDING][token].mul_(-1))
    assert (found.place, found.evidence["token id"], f"from token {first} on" in found.what) == ("L0", token, True)


@pytest.mark.parametrize(
    ("key", "value"), [("topk_group", 1), ("rope_theta", 5e5), ("norm_topk_prob", False), ("rms_norm_eps", 1e-2)]
)
def test_a_changed_key_of_the_configuration_is_named(healthy: Path, key: str, value: object) -> None:
    reference = traced(healthy)
    found = grave(examine_text(Engine.load(configure(healthy, **{key: value}), device="cpu"), (), reference))
    assert [(f.severity, f.what.split()[2]) for f in found] == [(ERROR, key)]


def renumber(tensors: Tensors, layer: int, order: list[int]) -> None:
    """Renumber the experts, with their router rows, biases and weights."""
    prefix = f"model.layers.{layer}.mlp.gate."
    for name in (f"{prefix}weight", f"{prefix}e_score_correction_bias"):
        tensors[name] = tensors[name][order].contiguous()
    old = {name: tensors[name] for name in tensors if f"layers.{layer}.mlp.experts." in name}
    for new, before in enumerate(order):
        for projection in ("gate_proj", "up_proj", "down_proj"):
            tensors[expert(layer, new, projection)] = old[expert(layer, before, projection)]


def test_a_harmless_renumbering_is_a_note(healthy: Path) -> None:
    reference = traced(healthy)
    order = [2, 0, 1, 3, *range(4, 16)]  # within the first group
    plant(healthy, lambda tensors: renumber(tensors, 3, order))
    found = examine_text(Engine.load(healthy, device="cpu"), (), reference).findings
    assert {f.severity for f in found} == {NOTE}
    assert any("3 router rows are permuted" in f.what for f in found)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_scale_that_is_off_by_two_is_named(tmp_path: Path, factor: float) -> None:
    folder = written(random_model(tiny_config(**FP8)), tmp_path / "model", fp8=True)
    found: list[Finding] = against(folder, lambda t: t[f"{expert(1, 8)}_scale_inv"][2, 1].mul_(factor))
    assert [(f.severity, f.place) for f in found] == [(ERROR, "L1E8")]


def test_nan_everywhere_raises_no_warning(healthy: Path, recwarn: pytest.WarningsRecorder) -> None:
    found = against(healthy, lambda tensors: tensors["model.layers.2.input_layernorm.weight"].fill_(math.nan))
    assert [f.layer for f in found][:1] == [2]
    assert [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)] == []
