"""The second stage: planted faults against a healthy reference are named; healthy models raise nothing above a note."""

import functools
import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.checkpoint import memory
from model.checkpoint.embedded import embedded_models
from model.checkpoint.weights import weight_bytes
from model.doctor import load, text
from model.doctor.findings import ERROR, NOTE, WARNING, Finding, Report
from model.doctor.prompts import Prompt, PromptsError, own_prompts, read_prompts
from model.doctor.reference import UnusableReferenceError
from model.doctor.text import examine_text
from model.run.engine import Engine
from model.run.from_disk import Stopped
from model.run.interventions import KnockOut
from model.run.request import Capture, RunRequest
from model.trace import chance, metrics
from model.trace.router_rule import RouterRule
from model.trace.trace import Trace
from tests.model.doctor.checkpoints import (
    BIAS,
    GATE,
    Tensors,
    balanced,
    configure,
    expert,
    plant,
    sparse_config,
    written,
)
from tests.models import random_model, tiny_config

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def random_prompts(number: int = 12, length: int = 100, seed: int = 5) -> list[Prompt]:
    generator = torch.Generator().manual_seed(seed)
    return [Prompt(ids=tuple(torch.randint(2, 320, (length,), generator=generator).tolist())) for _ in range(number)]


def grave(report: Report) -> list[Finding]:
    return [found for found in report.findings if found.severity != NOTE]


# --- healthy ---------------------------------------------------------------------------------------------------------


@functools.cache
def examined(name: str) -> tuple[Report, list[Trace]]:
    """The report on an embedded model over the doctor's own sample, and the traces of its runs in fp32."""
    traces: list[Trace] = []

    def keep(progress: text.Progress) -> None:
        if progress.trace is not None and progress.doing == "fp32":
            traces.append(progress.trace)

    return examine_text(Engine.load(name, device="cpu"), own_prompts(), on_progress=keep), traces


@pytest.mark.parametrize("name", embedded_models())
def test_embedded_models_are_healthy_on_the_own_sample(name: str) -> None:
    report, _ = examined(name)
    assert grave(report) == []
    assert {check.name for check in report.made} >= {"load", "groups", "near ties", "bf16 against fp32", "own numbers"}
    rows = report.measures["Routing layer by layer"]
    assert [row["layer"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(row["tokens"] > 1000 for row in rows)


def test_the_calibration_of_the_thresholds_is_measured() -> None:
    """The figures in the docstring of `load`, on the embedded models and the doctor's own sample."""
    lowest, busiest, spread, ends = [], 0.0, math.inf, 0.0
    for name in embedded_models():
        data = text.joined(examined(name)[1])
        counts = metrics.tokens_per_expert(data["expert_id"], 32).values
        scores = data["router_score"].values
        lowest.append(np.sort((counts / data.sizes["token"] * 8).ravel()))  # 4 of 32 experts: fair is an eighth
        busiest = max(busiest, float((np.sort(counts)[:, -4:].sum(1) / counts.sum(1)).max()))
        spread = min(spread, float(scores.std((0, 2)).min()))
        ends = max(ends, float((np.minimum(scores, 1 - scores) < load.AT_AN_END).mean((0, 2)).max()))
    shares = np.sort(np.concatenate(lowest))
    said = " ".join((load.__doc__ or "").split())
    assert f"experts have {shares[0]:.2g} to {shares[-1]:.2g} fair shares" in said
    assert f"All others have at least {shares[1]:.2g}." in said
    assert f"the busiest four at most {busiest:.0%}".replace("%", " %") in said
    assert f"a standard deviation of at least {spread:.2f}" in said
    assert f"at most {ends:.1%}".replace("%", " %") in said


def test_an_expert_that_a_few_tokens_select_is_rare_and_not_dead() -> None:
    rule = RouterRule(num_experts=32, top_k=4)
    fair = np.full(32, 250)
    for count, severity in ((0, WARNING), (2, WARNING), (3, NOTE), (8, NOTE)):
        counts = np.concatenate([[count], fair[1:]])
        (found,) = load._load(5, counts, 2000, rule)
        assert (found.severity, found.place, found.evidence["tokens"]) == (severity, "L5E0", count)


@pytest.mark.parametrize("make", [tiny_config, sparse_config])
def test_random_models_after_balancing_are_healthy(tmp_path: Path, make: Callable[..., object]) -> None:
    folder = written(balanced(make()), tmp_path / "model")  # type: ignore[arg-type]
    report = examine_text(Engine.load(folder, device="cpu"), random_prompts())
    assert grave(report) == []


def test_a_model_on_the_disk_says_the_same(tmp_path: Path) -> None:
    folder = written(balanced(tiny_config(), steps=30), tmp_path / "model")
    prompts = random_prompts(2, 60)
    inside = examine_text(Engine.load(folder, device="cpu"), prompts)
    outside = examine_text(Engine.from_disk(folder, device="cpu"), prompts)
    (one, *_), (other, *_) = inside.measures["Routing layer by layer"], outside.measures["Routing layer by layer"]
    assert (one["tokens"], one["layer"]) == (other["tokens"], other["layer"])


@pytest.mark.parametrize(("copies", "read"), [(1, "from_disk"), (2, "load")])
def test_the_copy_in_another_dtype_stays_on_the_disk_where_a_gpu_is_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, copies: int, read: str
) -> None:
    chosen: list[str] = []
    for name in ("load", "from_disk"):
        monkeypatch.setattr(Engine, name, lambda *_, name=name, **__: chosen.append(name))
    monkeypatch.setattr(memory, "free_bytes", lambda gpu: copies * weight_bytes(tiny_config(), torch.bfloat16))
    engine = SimpleNamespace(
        device=torch.device("cuda"), config=tiny_config(), disk=None, folder=tmp_path, tokenizer=None
    )
    text._again(engine, "bfloat16")
    assert chosen == [read]


def test_a_model_without_mixture_layers_has_no_routing_to_look_at(tmp_path: Path) -> None:
    folder = written(random_model(tiny_config(num_layers=2, num_dense_layers=2)), tmp_path / "model")
    report = examine_text(Engine.load(folder, device="cpu"), random_prompts(1))
    assert report.findings == ()
    assert [check.skipped for check in report.checks] == ["the model has no MoE layers, so nothing is routed"]


# --- load ------------------------------------------------------------------------------------------------------------


def test_without_a_band_nothing_is_said_of_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(random_model(tiny_config(num_layers=2)), tmp_path / "model")
    monkeypatch.setattr(chance, "MOST_DRAWN", 1)  # as if the router were too large to simulate
    chance.load_band.cache_clear()
    report = examine_text(Engine.load(folder, device="cpu"), random_prompts(1, 50))
    (row,) = report.measures["Routing layer by layer"]
    assert math.isnan(row["MaxVio by chance"])
    assert not any("chance" in found.what for found in report.findings)


def test_a_bias_that_kills_an_expert_shows_in_its_load(tmp_path: Path) -> None:
    folder = written(balanced(tiny_config()), tmp_path / "model")
    plant(folder, lambda tensors: tensors[BIAS][6].fill_(-5))
    found = grave(examine_text(Engine.load(folder, device="cpu"), random_prompts()))
    assert [(f.check, f.place, f.evidence["tokens"]) for f in found] == [("load", "L3E6", 0)]


def test_a_bias_that_favours_one_expert_shows_in_its_load(tmp_path: Path) -> None:
    folder = written(balanced(tiny_config()), tmp_path / "model")
    plant(folder, lambda tensors: tensors[BIAS][6].fill_(5))
    found = grave(examine_text(Engine.load(folder, device="cpu"), random_prompts()))
    assert ("load", "L3E6") in [(f.check, f.place) for f in found]


def test_a_starved_group_and_a_collapsed_layer_are_found(tmp_path: Path) -> None:
    folder = written(balanced(tiny_config()), tmp_path / "model")
    plant(folder, lambda tensors: tensors[BIAS][8:12].sub_(5))
    found = grave(examine_text(Engine.load(folder, device="cpu"), random_prompts()))
    assert ("groups", "L3E8") in [(f.check, f.place) for f in found]
    favoured = torch.zeros(16).index_fill(0, torch.tensor([0, 1, 4, 5]), 9.0)
    plant(folder, lambda tensors: tensors[BIAS].add_(favoured))
    found = grave(examine_text(Engine.load(folder, device="cpu"), random_prompts()))
    assert any(f.severity == ERROR and f.layer == 3 and "collapsed" in f.what for f in found)


def test_a_router_that_shouts_or_says_nothing_is_found(tmp_path: Path) -> None:
    folder = written(balanced(tiny_config(), steps=30), tmp_path / "model")
    plant(folder, lambda tensors: tensors[GATE].mul_(200))
    found = grave(examine_text(Engine.load(folder, device="cpu"), random_prompts(2)))
    assert ("affinities", "L3") in [(f.check, f.place) for f in found]
    plant(folder, lambda tensors: tensors[GATE].mul_(1e-7))
    found = grave(examine_text(Engine.load(folder, device="cpu"), random_prompts(2)))
    assert ("affinities", "L3") in [(f.check, f.place) for f in found]


# --- against a reference ---------------------------------------------------------------------------------------------


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    return written(random_model(tiny_config()), tmp_path / "model")


def traced(folder: Path, **options: object) -> Trace:
    (prompt,) = random_prompts(1, 160)
    return Engine.load(folder, device="cpu").run(RunRequest(token_ids=prompt.ids, **options))  # type: ignore[arg-type]


def against(folder: Path, change: Callable[[Tensors], object]) -> list[Finding]:
    reference = traced(folder)
    return grave(examine_text(Engine.load(plant(folder, change), device="cpu"), (), reference))


def test_an_unchanged_model_equals_its_reference(healthy: Path) -> None:
    report = examine_text(Engine.load(healthy, device="cpu"), (), traced(healthy))
    assert [(f.severity, f.evidence["tokens"]) for f in report.findings] == [(NOTE, 160)]


def test_the_bias_of_another_layer_is_named(healthy: Path) -> None:
    other = BIAS.replace("layers.3", "layers.2")
    (found,) = against(healthy, lambda tensors: tensors[BIAS].copy_(tensors[other]))
    assert (found.severity, found.place, found.what) == (ERROR, "L3", "L3 carries the bias of L2")


def test_a_changed_bias_is_named(healthy: Path) -> None:
    (found,) = against(healthy, lambda tensors: tensors[BIAS][4].add_(0.05))
    assert (found.severity, found.place, found.evidence["experts"]) == (ERROR, "L3E4", 1)


def swap_rows(tensor: torch.Tensor, one: int, other: int) -> None:
    tensor[[one, other]] = tensor[[other, one]]


def swap_experts(tensors: Tensors, layer: int, one: int, other: int) -> None:
    for projection in PROJECTIONS:
        first, second = expert(layer, one, projection), expert(layer, other, projection)
        tensors[first], tensors[second] = tensors[second], tensors[first]


def test_swapped_experts_are_named(healthy: Path) -> None:
    (found,) = against(healthy, lambda tensors: swap_experts(tensors, 2, 3, 12))
    assert (found.severity, found.place, found.evidence["other expert"]) == (ERROR, "L2E3", 12)
    assert "swapped" in found.what


def test_a_damaged_expert_is_not_taken_for_a_swap(healthy: Path) -> None:
    (found,) = against(healthy, lambda tensors: tensors[expert(2, 3)].mul_(1.5))
    assert (found.severity, found.place) == (ERROR, "L2E3")
    assert "swapped" not in found.what


def test_an_expert_that_answers_nan_is_named(healthy: Path) -> None:
    (found,) = against(healthy, lambda tensors: tensors[expert(2, 3)][0].fill_(math.nan))
    assert (found.severity, found.place, found.evidence["experts"]) == (ERROR, "L2E3", 1)


def test_gate_rows_permuted_across_groups_are_named(healthy: Path) -> None:
    (found,) = against(healthy, lambda tensors: swap_rows(tensors[GATE], 2, 9))
    assert (found.severity, found.place, found.evidence["across groups"]) == (ERROR, "L3E2", 2)
    assert "across groups" in found.what
    assert "E2 has that of E9" in found.what


def test_gate_rows_permuted_within_a_group_are_told_apart(healthy: Path) -> None:
    (found,) = against(healthy, lambda tensors: swap_rows(tensors[GATE], 1, 2))
    assert (found.place, found.evidence["across groups"]) == ("L3E1", 0)
    assert "within their groups" in found.what


def test_another_scaling_factor_is_named(healthy: Path) -> None:
    reference = traced(healthy)
    engine = Engine.load(configure(healthy, routed_scaling_factor=1.0), device="cpu")
    (found,) = grave(examine_text(engine, (), reference))
    assert (found.severity, found.check, found.evidence["reference"]) == (ERROR, "reference", pytest.approx(2.5))
    assert found.evidence["factor"] == pytest.approx(1.0)


def test_changed_attention_is_told_by_its_layer(healthy: Path) -> None:
    name = "model.layers.2.self_attn.o_proj.weight"
    (found,) = against(healthy, lambda tensors: tensors[name].mul_(1.5))
    assert (found.severity, found.place) == (ERROR, "L2")


def test_a_dense_layer_that_was_changed_is_named(healthy: Path) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    (found,) = against(healthy, lambda tensors: tensors[name].mul_(1.5))
    assert (found.severity, found.place) == (ERROR, "L0")


def test_an_unusable_reference_is_refused(healthy: Path, tmp_path: Path) -> None:
    engine = Engine.load(healthy, device="cpu")
    other = written(random_model(tiny_config(num_experts=8)), tmp_path / "other")
    with pytest.raises(UnusableReferenceError, match="n_routed_experts 8"):
        examine_text(engine, (), traced(other))
    with pytest.raises(UnusableReferenceError, match="router_score"):
        examine_text(engine, (), traced(healthy, capture=Capture(frozenset())))
    with pytest.raises(UnusableReferenceError, match="interventions"):
        examine_text(engine, (), traced(healthy, interventions=(KnockOut(3, 1),)))


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_prompts_are_read_by_line_or_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "prompts"
    path.write_text("one\n\n two \r\n")
    assert [prompt.text for prompt in read_prompts(path)] == ["one", " two "]
    path.write_text('{"text": "a\\nb"}\n{"prompt": "c"}\n{"ids": [5, 6]}\n')
    assert list(read_prompts(path)) == [Prompt("a\nb"), Prompt("c"), Prompt(ids=(5, 6))]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n \n", "holds no prompt"),
        (b"\xff\xfe\xfd", "not UTF-8"),
        (b'{"text": "a"}\nb\n', "line 2 is not JSON"),
        (b'{"text": ""}', "line 1 must be"),
        (b'{"ids": [1, -2]}', "line 1 must be"),
        (b'{"ids": [true]}', "line 1 must be"),
    ],
)
def test_unusable_prompts_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "prompts").write_bytes(content)
    with pytest.raises(PromptsError, match=words):
        read_prompts(tmp_path / "prompts")


def test_prompts_that_the_model_cannot_run_are_refused(healthy: Path) -> None:
    engine = Engine.load(healthy, device="cpu")
    with pytest.raises(PromptsError, match="no readable tokenizer.json"):
        examine_text(engine, [Prompt("text")])
    with pytest.raises(PromptsError, match="token id 320"):
        examine_text(engine, [Prompt(ids=(5, 320))])


def test_it_can_be_stopped(healthy: Path) -> None:
    cancel = threading.Event()
    seen: list[int] = []

    def after_one(progress: object) -> None:
        seen.append(1)
        if len(seen) == 2:
            cancel.set()

    with pytest.raises(Stopped, match="after 1 of 4"):
        examine_text(Engine.load(healthy, device="cpu"), random_prompts(2, 20), None, after_one, cancel)
