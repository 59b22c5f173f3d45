"""Every planted fault is named at its first link, with a text and a reference; healthy checkpoints raise no alarm."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoint.weights import save_model
from model.doctor.findings import ERROR, NOTE, WARNING, Finding, Report
from model.doctor.prompts import Prompt
from model.doctor.text import examine_text
from model.doctor.weights import examine_weights
from model.network.config import ModelConfig
from model.network.rope import Yarn
from model.run.engine import Engine
from model.run.request import RunRequest
from model.trace.trace import Trace
from model.train.data.bpe import train_vocabulary
from tests.model.doctor.checkpoints import FP8, balanced, configure, expert, plant, sparse_config, written
from tests.model.doctor.faults import FAULTS, HARMLESS, copy_layer
from tests.models import random_model, tiny_config

TEXT = (
    "Once upon a time a small fox ran over the hill and slept. def add(left, right):\n    return left + right\n"
    "The quick brown dog jumps over 13 lazy cats! Und dann kam der Wolf; il \u00e9tait une fois."
)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A balanced model with a tokenizer of its size."""
    folder = written(balanced(tiny_config(bos_id=0, eos_id=1), steps=30), tmp_path_factory.mktemp("healthy"))
    train_vocabulary([TEXT * 3], 320, show_progress=False).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def reference(healthy: Path) -> Trace:
    return Engine.load(healthy, device="cpu").run(RunRequest(prompt=TEXT))


@pytest.fixture
def folder(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "model"))


def compared(folder: Path, reference: Trace) -> list[Finding]:
    """The findings against the reference that are more than notes; the text is run, too."""
    report = examine_text(Engine.load(folder, device="cpu"), [Prompt(TEXT)], reference)
    return [found for found in report.findings if found.check == "reference" and found.severity != NOTE]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_at_its_first_link(folder: Path, reference: Trace, name: str) -> None:
    plant_in, place, words = FAULTS[name]
    plant_in(folder)
    (found,) = compared(folder, reference)
    assert (found.severity, found.place) == (ERROR, place)
    assert words in found.what


def test_there_are_39_faults() -> None:
    assert len(FAULTS) == 39


@pytest.mark.parametrize("name", HARMLESS)
def test_what_changes_no_result_is_at_most_a_note(folder: Path, reference: Trace, name: str) -> None:
    HARMLESS[name](folder)
    assert grave(examine_weights(folder)) == []
    assert compared(folder, reference) == []


def test_a_reference_of_an_older_version_names_the_layer(folder: Path, reference: Trace) -> None:
    old = dataclasses.replace(reference, data=reference.data.drop_vars(["embedding_norm", "attention_residual_norm"]))
    for name, place in (("embedding permuted", "L0"), ("attention output", "L2"), ("an expert scaled", "L2E3")):
        changed = Path(shutil.copytree(folder, folder.parent / name))
        FAULTS[name][0](changed)
        assert [found.place for found in compared(changed, old)] == [place]


def test_dense_layers_that_the_files_do_not_have_are_named_by_the_weights(folder: Path) -> None:
    found = grave(examine_weights(configure(folder, first_k_dense_replace=2)))
    assert any("the first 2 layers are dense; the first router is in L1" in finding.what for finding in found)


def test_a_layer_that_is_a_copy_is_named_by_the_weights_alone(folder: Path) -> None:
    (found,) = grave(examine_weights(plant(folder, lambda tensors: copy_layer(tensors, 2, 4))))
    assert (found.severity, found.what) == (ERROR, "L4 is a copy of L2")


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("blocks", [(2, 1), ...], ids=["one block", "one tensor"])
def test_an_fp8_scale_off_by_two_is_named_by_the_weights_alone(tmp_path: Path, factor: float, blocks: Any) -> None:
    folder = written(random_model(tiny_config(**FP8)), tmp_path / "model", fp8=True)
    (found,) = grave(examine_weights(plant(folder, lambda t: t[f"{expert(1, 8)}_scale_inv"][blocks].mul_(factor))))
    assert (found.severity, found.place) == (WARNING, "L1E8")


# --- healthy ---------------------------------------------------------------------------------------------------------


def grave(report: Report) -> list[Finding]:
    return [found for found in report.findings if found.severity != NOTE]


_YARN = Yarn(factor=4.0, original_max_positions=64, beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0)
_MOON: dict[str, Any] = dict(q_lora_rank=None, num_groups=1, num_kept_groups=1, num_shared_experts=2)
_V2: dict[str, Any] = dict(model_type="deepseek_v2", scoring="softmax", normalise_weights=False, routed_scale=1.0)
_GREEDY: dict[str, Any] = _V2 | dict(selection="greedy", num_groups=1, num_kept_groups=1)
_GLM: dict[str, Any] = dict(model_type="glm_moe_dsa", num_groups=1, num_kept_groups=1)
_FULL = ("full", "shared", "full", "shared", "full")

# Checkpoint -> its shape, and the form in which it is stored: a dtype, or fp8 with scales of a dtype.
HEALTHY: dict[str, tuple[ModelConfig, torch.dtype, torch.dtype | None]] = {
    "V3": (tiny_config(), torch.float32, None),
    "V3 in bfloat16": (tiny_config(), torch.bfloat16, None),
    "V3 in float16": (tiny_config(), torch.float16, None),
    "V3 in FP8": (tiny_config(**FP8), torch.bfloat16, torch.float32),
    "V3 in FP8 with scales of powers of two": (tiny_config(**FP8), torch.bfloat16, torch.float8_e8m0fnu),
    "V3 with a draft layer": (tiny_config(has_mtp=True), torch.float32, None),
    "V3 with a draft layer in bfloat16": (tiny_config(has_mtp=True, tie_embeddings=True), torch.bfloat16, None),
    "without a shared expert": (tiny_config(num_shared_experts=0), torch.float32, None),
    "two groups, one kept": (tiny_config(num_groups=2, num_kept_groups=1), torch.float32, None),
    "eight groups": (tiny_config(num_groups=8, num_kept_groups=4), torch.float32, None),
    "one group": (tiny_config(num_groups=1, num_kept_groups=1), torch.float32, None),
    "without dense layers": (tiny_config(num_dense_layers=0), torch.float32, None),
    "three dense layers": (tiny_config(num_dense_layers=3), torch.float32, None),
    "dense layers only": (tiny_config(num_layers=2, num_dense_layers=2), torch.float32, None),
    "tied": (tiny_config(tie_embeddings=True), torch.float32, None),
    "full queries": (tiny_config(q_lora_rank=None), torch.float32, None),
    "biases in attention": (tiny_config(attention_bias=True), torch.float32, None),
    "YaRN": (tiny_config(yarn=_YARN), torch.float32, None),
    "weights not normalised": (tiny_config(normalise_weights=False), torch.float32, None),
    "V2, greedy": (tiny_config(**_GREEDY), torch.bfloat16, None),
    "V2, groups": (tiny_config(**_V2, selection="group_limited_greedy"), torch.float32, None),
    "Kimi K2": (tiny_config(model_type="kimi_k2", num_groups=1, num_kept_groups=1), torch.bfloat16, None),
    "Moonlight": (tiny_config(**_MOON), torch.bfloat16, None),
    "V3.2": (sparse_config(), torch.float32, None),
    "V3.2 in FP8": (sparse_config(**FP8), torch.bfloat16, torch.float32),
    "GLM": (sparse_config(**_GLM, indexer_types=_FULL), torch.bfloat16, None),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_checkpoint_raises_no_alarm(tmp_path: Path, name: str) -> None:
    config, dtype, scales = HEALTHY[name]
    model = random_model(config) if scales else balanced(config, steps=30)
    save_model(model, tmp_path / "model", dtype, fp8_scales=scales)
    assert grave(examine_weights(tmp_path / "model")) == []
    engine = Engine.load(tmp_path / "model", device="cpu")
    generator = torch.Generator().manual_seed(5)
    prompts = [Prompt(ids=tuple(torch.randint(2, 320, (100,), generator=generator).tolist())) for _ in range(2)]
    own = engine.run(RunRequest(token_ids=prompts[0].ids)) if config.moe_layers else None
    assert grave(examine_text(engine, prompts, own)) == []


def test_there_are_26_healthy_checkpoints() -> None:
    assert len(HEALTHY) == 26
