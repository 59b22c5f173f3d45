"""The first stage: every planted fault is found and named, and healthy models raise nothing above a note."""

import json
import math
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint.disk import DiskTensors
from model.checkpoint.embedded import embedded_models, find_model
from model.checkpoint.header import CheckpointError
from model.doctor.bias import is_rounded
from model.doctor.findings import ERROR, NOTE, WARNING, Finding, Report
from model.doctor.reading import Stopped
from model.doctor.report import to_json, to_lines
from model.doctor.weights import examine_weights
from tests.model.doctor.checkpoints import (
    BIAS,
    FP8,
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(random_model(tiny_config()), tmp_path / "model")


@pytest.fixture
def fp8(tmp_path: Path) -> Path:
    return written(random_model(tiny_config(**FP8)), tmp_path / "model", fp8=True)


def grave(report: Report) -> list[Finding]:
    return [found for found in report.findings if found.severity != NOTE]


def only(report: Report) -> Finding:
    """The only finding above a note."""
    (found,) = grave(report)
    return found


# --- healthy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", embedded_models())
def test_embedded_models_are_healthy(name: str) -> None:
    report = examine_weights(find_model(name))
    assert grave(report) == []
    assert {check.name for check in report.made} >= {"config", "manifest", "values", "bias", "gate rows", "experts"}


@pytest.mark.parametrize("make", [tiny_config, sparse_config])
@pytest.mark.parametrize("fp8", [False, True])
def test_random_models_after_balancing_are_healthy(tmp_path: Path, make: Callable[..., object], fp8: bool) -> None:
    report = examine_weights(written(balanced(make(), steps=30), tmp_path / "model", fp8))  # type: ignore[arg-type]
    assert grave(report) == []


@pytest.mark.parametrize("seed", range(4))
def test_random_models_of_many_blocks_are_healthy(tmp_path: Path, seed: int) -> None:
    report = examine_weights(written(random_model(tiny_config(**FP8), seed), tmp_path / "model", fp8=True))
    assert report.findings == ()
    (blocks,) = [check for check in report.checks if check.name == "fp8 blocks"]
    assert not blocks.skipped


# --- bias ------------------------------------------------------------------------------------------------------------


def test_a_bias_that_is_zero_is_found(folder: Path) -> None:
    plant(folder, lambda tensors: tensors[BIAS].zero_())
    found = only(examine_weights(folder))
    assert (found.severity, found.check, found.place) == (WARNING, "bias", "L3")
    assert found.evidence["different values"] == 1


def test_a_bias_of_which_most_is_zero_is_found(folder: Path) -> None:
    plant(folder, lambda tensors: tensors[BIAS][:12].zero_())
    found = only(examine_weights(folder))
    assert (found.severity, found.place, found.evidence["share at 0"]) == (WARNING, "L3", 0.75)


def test_a_bias_rounded_to_bfloat16_is_found(folder: Path) -> None:
    plant(folder, lambda tensors: tensors[BIAS].copy_(tensors[BIAS].bfloat16().float()))
    found = only(examine_weights(folder))
    assert (found.severity, found.check, found.place) == (WARNING, "bias", "L3")
    assert "made of bfloat16 numbers" in found.what


def test_a_bias_stored_in_bfloat16_is_found(folder: Path) -> None:
    plant(folder, lambda tensors: tensors.update({BIAS: tensors[BIAS].bfloat16()}))
    found = only(examine_weights(folder))
    assert (found.place, "stored in bfloat16" in found.what) == ("L3", True)


def test_biases_of_all_layers_in_bfloat16_are_one_finding(folder: Path) -> None:
    plant(folder, lambda tensors: [tensors.update({n: t.bfloat16()}) for n, t in tensors.items() if "correction" in n])
    found = only(examine_weights(folder))
    assert (found.severity, found.evidence["layers"]) == (WARNING, 4)
    assert found.what.startswith("in 4 of 4 layers the bias is stored in bfloat16, in steps of ")


def test_a_drifted_bias_in_bfloat16_is_found_though_its_values_lie_on_one_grid() -> None:
    drifted = np.float32(6.9) + np.linspace(-0.1, 0.1, 32, dtype=np.float32)
    assert not is_rounded(drifted)
    assert is_rounded(torch.from_numpy(drifted).bfloat16().float().numpy())


@pytest.mark.parametrize("exponent", [-8, -10, -12])
def test_steps_of_a_power_of_two_are_not_taken_for_rounding(exponent: int) -> None:
    steps = np.random.default_rng(0).integers(-60, 60, 64).astype(np.float32)
    assert not is_rounded(np.ldexp(steps, exponent))


def test_an_absurd_bias_names_its_expert(folder: Path) -> None:
    plant(folder, lambda tensors: tensors[BIAS][5].fill_(-40.0))
    found = only(examine_weights(folder))
    assert (found.severity, found.place, found.evidence["lowest"]) == (ERROR, "L3E5", -40.0)


def test_a_bias_in_other_units_is_found(tmp_path: Path) -> None:
    folder = written(random_model(tiny_config(num_layers=7)), tmp_path / "model")
    plant(folder, lambda tensors: tensors[BIAS].mul_(1e-3))
    found = only(examine_weights(folder))
    assert (found.severity, found.check, found.place) == (WARNING, "bias", "L3")


def test_an_offset_that_swallows_the_differences_is_found(folder: Path) -> None:
    plant(folder, lambda tensors: tensors[BIAS].add_(1e5))
    errors = [found for found in grave(examine_weights(folder)) if found.severity == ERROR]
    assert [found.place for found in errors] == ["L3"]
    assert "fp32" in errors[0].what


# --- router ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_a_scaled_gate_row_names_its_expert(folder: Path, factor: float) -> None:
    plant(folder, lambda tensors: tensors[GATE][7].mul_(factor))
    found = only(examine_weights(folder))
    assert (found.severity, found.check, found.place) == (WARNING, "gate rows", "L3E7")


def test_duplicate_gate_rows_name_both_experts(folder: Path) -> None:
    plant(folder, lambda tensors: tensors[GATE][9].copy_(tensors[GATE][2]))
    found = only(examine_weights(folder))
    assert (found.severity, found.place, found.evidence["other expert"]) == (ERROR, "L3E9", 2)


def test_nearly_parallel_gate_rows_are_found(folder: Path) -> None:
    def near(tensors: Tensors) -> None:
        tensors[GATE][9] = 1.1 * tensors[GATE][2] + 0.1 * tensors[GATE][9]

    found = only(examine_weights(plant(folder, near)))
    assert (found.severity, found.place, found.evidence["other expert"]) == (WARNING, "L3E9", 2)


def test_a_gate_row_of_zeros_is_found(folder: Path) -> None:
    plant(folder, lambda tensors: tensors[GATE][0].zero_())
    assert (only(examine_weights(folder)).severity, only(examine_weights(folder)).place) == (ERROR, "L3E0")


# --- experts ---------------------------------------------------------------------------------------------------------


def copy_expert(tensors: Tensors, layer: int, source: int, target: int, noise: float = 0.0) -> None:
    for projection in ("gate_proj", "up_proj", "down_proj"):
        original = tensors[expert(layer, source, projection)]
        disturbed = original + noise * original.std() * torch.randn(original.shape, generator=torch.Generator())
        tensors[expert(layer, target, projection)] = disturbed.contiguous()


def test_a_copied_expert_is_found(folder: Path) -> None:
    plant(folder, lambda tensors: copy_expert(tensors, 2, source=3, target=11))
    found = only(examine_weights(folder))
    assert (found.severity, found.place, found.evidence["other expert"]) == (ERROR, "L2E11", 3)


def test_a_near_copy_is_found_by_its_angle(folder: Path) -> None:
    plant(folder, lambda tensors: copy_expert(tensors, 2, source=3, target=11, noise=0.05))
    found = only(examine_weights(folder))
    assert (found.severity, found.place, found.evidence["other expert"]) == (WARNING, "L2E11", 3)
    assert 0.99 < float(found.evidence["lowest cosine"]) < 1


def test_one_copied_projection_is_named(folder: Path) -> None:
    plant(folder, lambda tensors: tensors[expert(2, 11)].copy_(tensors[expert(2, 3)]))
    found = only(examine_weights(folder))
    assert (found.severity, found.place) == (WARNING, "L2E11")
    assert "up_proj" in found.what


def test_a_zeroed_expert_is_found(folder: Path) -> None:
    def zero(tensors: Tensors) -> None:
        for projection in ("gate_proj", "up_proj", "down_proj"):
            tensors[expert(4, 6, projection)].zero_()

    found = only(examine_weights(plant(folder, zero)))
    assert (found.severity, found.check, found.place) == (ERROR, "experts", "L4E6")


def test_a_zeroed_projection_is_named(folder: Path) -> None:
    plant(folder, lambda tensors: tensors[expert(4, 6, "down_proj")].zero_())
    found = only(examine_weights(folder))
    assert (found.place, "down_proj" in found.what) == ("L4E6", True)


def test_an_expert_in_other_units_is_found(folder: Path) -> None:
    plant(folder, lambda tensors: tensors[expert(1, 0)].mul_(30))
    found = only(examine_weights(folder))
    assert (found.severity, found.check, found.place) == (WARNING, "experts", "L1E0")


# --- FP8 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [16.0, 0.0625])
def test_a_mis_scaled_block_is_found(fp8: Path, factor: float) -> None:
    plant(fp8, lambda tensors: tensors[f"{expert(1, 8)}_scale_inv"][2, 1].mul_(factor))
    found = only(examine_weights(fp8))
    assert (found.severity, found.check, found.place) == (ERROR, "fp8 blocks", "L1E8")
    assert (found.evidence["block row"], found.evidence["block column"]) == (2, 1)
    assert float(found.evidence["ratio"]) == pytest.approx(factor, rel=0.1)


def test_a_mis_scaled_block_outside_the_experts_is_found(tmp_path: Path) -> None:
    config = tiny_config(**FP8, dense_width=640)
    folder = written(random_model(config), tmp_path / "model", fp8=True)
    name = "model.layers.0.mlp.gate_proj.weight"
    plant(folder, lambda tensors: tensors[f"{name}_scale_inv"][4, 2].mul_(8))
    found = only(examine_weights(folder))
    assert (found.place, found.tensor, found.evidence["block row"]) == ("L0", name, 4)


def test_saturated_blocks_are_found(fp8: Path) -> None:
    def clip(tensors: Tensors) -> None:
        block = tensors[expert(1, 8)].view(torch.uint8)[:128, :128]
        block[:16] = 0x7E  # 448

    found = [f for f in grave(examine_weights(plant(fp8, clip))) if f.severity == WARNING]
    assert [(f.place, f.evidence["share"]) for f in found] == [("L1E8", pytest.approx(0.125, abs=0.001))]


def test_nan_in_fp8_is_a_finding_with_its_place(fp8: Path) -> None:
    def damage(tensors: Tensors) -> None:
        tensors[expert(1, 8)].view(torch.uint8)[200, 300] = 0xFF

    found = only(examine_weights(plant(fp8, damage)))
    assert (found.severity, found.check, found.place) == (ERROR, "values", "L1E8")
    assert (found.evidence["NaN"], "[200,300]" in found.what) == (1, True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_an_unusable_scale_is_found(fp8: Path, value: float) -> None:
    plant(fp8, lambda tensors: tensors[f"{expert(1, 8)}_scale_inv"][0, 0].fill_(value))
    found = only(examine_weights(fp8))
    assert (found.place, found.evidence) == ("L1E8", {"bad scales": 1})


# --- values and sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_a_broken_value_is_found_with_its_place(folder: Path, value: float, kind: str) -> None:
    name = "model.layers.2.self_attn.o_proj.weight"
    plant(folder, lambda tensors: tensors[name][3, 4].fill_(value))
    found = only(examine_weights(folder))
    assert (found.severity, found.place, found.tensor, found.evidence[kind]) == (ERROR, "L2", name, 1)
    assert "[3,4]" in found.what


def test_a_norm_of_zeros_is_found(folder: Path) -> None:
    plant(folder, lambda tensors: tensors["model.layers.2.input_layernorm.weight"].zero_())
    found = only(examine_weights(folder))
    assert (found.severity, found.place) == (ERROR, "L2")


def test_a_layer_in_other_units_is_found(folder: Path) -> None:
    plant(folder, lambda tensors: tensors["model.layers.2.input_layernorm.weight"].mul_(50))
    found = only(examine_weights(folder))
    assert (found.severity, found.check, found.place) == (WARNING, "sizes", "L2")


def copy_layer(tensors: Tensors, source: int, target: int, within: str = "") -> None:
    for name in [name for name in tensors if f"model.layers.{source}.{within}" in name]:
        tensors[name.replace(f"layers.{source}.", f"layers.{target}.")] = tensors[name].clone()


def test_a_copied_layer_is_found(folder: Path) -> None:
    found = only(examine_weights(plant(folder, lambda tensors: copy_layer(tensors, 2, 4))))
    assert (found.severity, found.check, found.place, found.evidence["other layer"]) == (
        ERROR,
        "copied layers",
        "L4",
        2,
    )


def test_matrices_of_another_layer_are_found(folder: Path) -> None:
    found = only(examine_weights(plant(folder, lambda tensors: copy_layer(tensors, 2, 4, "self_attn."))))
    assert (found.severity, found.check, found.place) == (WARNING, "copied layers", "L4")
    assert 0 < int(found.evidence["equal matrices"]) < int(found.evidence["of"])


# --- manifest and configuration --------------------------------------------------------------------------------------


def test_a_dropped_tensor_is_named(folder: Path) -> None:
    plant(folder, lambda tensors: tensors.pop(expert(2, 13)))
    found = only(examine_weights(folder))
    assert (found.severity, found.check, found.place, found.tensor) == (ERROR, "manifest", "L2E13", expert(2, 13))


def test_a_mis_shaped_tensor_is_named(folder: Path) -> None:
    plant(folder, lambda tensors: tensors.update({expert(2, 13): tensors[expert(2, 13)].T.contiguous()}))
    found = only(examine_weights(folder))
    assert (found.severity, found.place, found.tensor) == (ERROR, "L2E13", expert(2, 13))


def test_a_missing_scale_is_named(fp8: Path) -> None:
    plant(fp8, lambda tensors: tensors.pop(f"{expert(1, 3)}_scale_inv"))
    found = only(examine_weights(fp8))
    assert (found.severity, found.check, found.place) == (ERROR, "manifest", "L1E3")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_routed_experts": 12}, "n_routed_experts 12"),
        ({"n_routed_experts": 20}, "n_routed_experts 20"),
        ({"n_group": 3}, "n_group 3"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok 9"),
        ({"num_hidden_layers": 4}, "4 layers, the files hold 5"),
        ({"num_hidden_layers": 6}, "6 layers, the files hold 5"),
        ({"first_k_dense_replace": 2}, "first 2 layers are dense"),
        ({"moe_intermediate_size": 32}, "moe_intermediate_size 32"),
        ({"hidden_size": 64}, "hidden_size 64"),
        ({"q_lora_rank": None}, "q_lora_rank None"),
        ({"tie_word_embeddings": True}, "another head"),
    ],
)
def test_a_configuration_that_contradicts_the_tensors_is_found(
    folder: Path, changes: dict[str, object], words: str
) -> None:
    report = examine_weights(configure(folder, **changes))
    errors = [found for found in report.findings if found.severity == ERROR and found.check == "config"]
    assert any(words in found.what for found in errors), [found.what for found in report.findings]


@pytest.mark.parametrize("method", ["awq", "bitsandbytes", "compressed-tensors"])
def test_another_quantisation_is_one_finding(folder: Path, method: str) -> None:
    def pack(tensors: Tensors) -> None:
        for name in [name for name in tensors if ".experts." in name]:
            shape = tensors.pop(name).shape
            tensors[name.replace("weight", "qweight")] = torch.zeros(shape[1], shape[0] // 8, dtype=torch.int32)

    found = only(examine_weights(plant(configure(folder, quantization_config={"quant_method": method}), pack)))
    assert (found.severity, found.check) == (ERROR, "manifest")
    assert found.what.startswith(f"config.json: quantization_config: quant_method '{method}' is not supported")


def test_fp8_without_any_scales_is_one_finding(fp8: Path) -> None:
    plant(fp8, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.endswith("_scale_inv")])
    found = only(examine_weights(fp8))
    assert (found.check, found.evidence["tensors"]) == ("manifest", 120)
    assert "_scale_inv is missing" in found.what


@pytest.mark.parametrize("announced", [0, 1])
@pytest.mark.parametrize("lost", ["eh_proj.weight", "enorm.weight", "mlp.gate.weight"])
def test_a_part_of_a_draft_layer_is_no_contradiction(tmp_path: Path, lost: str, announced: int) -> None:
    folder = written(random_model(tiny_config(has_mtp=True)), tmp_path / "model")
    plant(configure(folder, num_nextn_predict_layers=announced), lambda tensors: tensors.pop(f"model.layers.5.{lost}"))
    found = only(examine_weights(folder))
    assert (found.severity, found.check, found.layer) == (WARNING, "manifest", 5)
    assert f"model.layers.5.{lost} is missing" in found.what


def test_a_file_that_ends_while_it_is_read_leaves_what_was_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = DiskTensors.raw

    def end(disk: DiskTensors, name: str) -> torch.Tensor:
        if name == expert(4, 0, "gate_proj"):
            raise CheckpointError("model.safetensors ended before the tensor did")
        return raw(disk, name)

    plant(folder, lambda tensors: tensors[BIAS].zero_())
    monkeypatch.setattr(DiskTensors, "raw", end)
    found = grave(examine_weights(folder))
    assert [(f.severity, f.check) for f in found] == [(ERROR, "values"), (WARNING, "bias")]
    assert "reading ended: model.safetensors ended" in found[0].what


# --- robustness ------------------------------------------------------------------------------------------------------


def break_everything(tensors: Tensors) -> None:
    for value, name in zip((math.nan, math.inf, -math.inf, 3e38, 0.0, 1e-40), tensors, strict=False):
        tensors[name].fill_(value)
    tensors[GATE].fill_(math.nan)
    tensors[BIAS].fill_(math.inf)
    for number in range(16):
        tensors[expert(2, number)].fill_(math.nan)
        tensors[expert(4, number)].fill_(3e38)


@pytest.mark.parametrize("quantised", [False, True])
def test_broken_values_raise_no_warning_and_no_nan_in_json(tmp_path: Path, quantised: bool) -> None:
    sizes = FP8 if quantised else {}
    folder = written(random_model(tiny_config(**(sizes | {"num_layers": 5}))), tmp_path / "m", quantised)
    if quantised:
        plant(folder, lambda t: [t[name].fill_(math.nan) for name in t if name.endswith("_scale_inv")])
    else:
        plant(folder, break_everything)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = examine_weights(folder)
    assert report.worst == ERROR
    json.loads(to_json(report), parse_constant=lambda word: pytest.fail(word))


@pytest.mark.parametrize("value", [None, True, "8", [1], {"a": 1}, math.nan, math.inf, -1, 0, 1.5, 10**30], ids=str)
def test_values_of_any_kind_in_the_configuration_are_findings(tmp_path: Path, value: object) -> None:
    folder = written(random_model(tiny_config(num_layers=2)), tmp_path / "small")
    for key in ("n_group", "vocab_size", "rope_scaling", "num_nextn_predict_layers", "quantization_config"):
        original = (folder / "config.json").read_text()
        report = examine_weights(configure(folder, **{key: value}))
        json.loads(to_json(report), parse_constant=lambda word: pytest.fail(word))
        assert to_lines(report)
        (folder / "config.json").write_text(original)


def test_an_untied_head_that_is_missing_is_found(folder: Path) -> None:
    plant(folder, lambda tensors: tensors.pop("lm_head.weight"))
    assert any(found.check == "config" and "head" in found.what for found in examine_weights(folder).findings)


def test_a_tied_copy_of_the_embedding_is_only_a_note(folder: Path) -> None:
    plant(folder, lambda t: t["lm_head.weight"].copy_(t["model.embed_tokens.weight"]))
    report = examine_weights(configure(folder, tie_word_embeddings=True))
    assert grave(report) == []
    assert any("a copy" in found.what for found in report.findings)


def test_a_truncated_file_is_a_finding(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    found = only(examine_weights(folder))
    assert (found.severity, "truncated" in found.what or "damaged" in found.what) == (ERROR, True)


# --- the walk itself -------------------------------------------------------------------------------------------------


def test_every_byte_is_read_once(fp8: Path) -> None:
    seen: list[int] = []
    examine_weights(fp8, lambda progress: seen.append(progress.bytes_read))
    from model.checkpoint.files import ModelFolder

    with ModelFolder(fp8) as opened:
        assert seen[-1] == sum(stored.num_bytes for stored in opened.tensors.values())


def test_it_can_be_stopped(folder: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Stopped, match="stopped after 1 of"):
        examine_weights(folder, cancel=cancel)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        examine_weights(tmp_path / "none")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match="holds no weights"):
        examine_weights(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "deepseek_v3"}')
    with pytest.raises(CheckpointError, match="holds no weights"):
        examine_weights(tmp_path)


def test_numbers_in_names_are_not_counted_up_to(folder: Path) -> None:
    few = torch.ones(2)
    plant(folder, lambda tensors: tensors.update({"model.layers.999999999.input_layernorm.weight": few}))
    found = grave(examine_weights(folder))
    assert any("the files hold 1000000000" in finding.what for finding in found)
    plant(folder, lambda tensors: tensors.pop("model.layers.999999999.input_layernorm.weight"))
    plant(folder, lambda tensors: tensors.update({f"model.layers.{'9' * 5000}.input_layernorm.weight": few}))
    assert grave(examine_weights(folder)) == []  # the name is of no layer


@pytest.mark.parametrize("shape", [(0,), (0, 128), (128, 0), (0, 0)])
def test_a_tensor_without_values_is_read(fp8: Path, shape: tuple[int, ...]) -> None:
    name = "model.layers.1.self_attn.spare.weight"

    def add(tensors: Tensors) -> None:
        tensors[name] = torch.zeros(shape, dtype=torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = torch.zeros([-(-size // 128) for size in shape])

    report = examine_weights(plant(fp8, add))
    assert all(finding.tensor != name for finding in grave(report))


def test_many_missing_tensors_become_one_finding_per_group(tmp_path: Path) -> None:
    folder = written(random_model(tiny_config()), tmp_path / "model")
    plant(folder, lambda tensors: [tensors.pop(expert(2, number)) for number in range(16)])
    plant(folder, lambda tensors: [tensors.pop(expert(3, number, "down_proj")) for number in range(4)])
    found = grave(examine_weights(folder))
    assert [(f.place, f.evidence["tensors"]) for f in found] == [("L2E0", 16), ("L3E0", 4)]
    assert found[0].what == "up_proj is missing in 16 experts: L2E0, L2E1, L2E2, L2E3, L2E4, L2E5 and 10 more"
    assert found[1].what == "down_proj is missing in 4 experts: L3E0, L3E1, L3E2, L3E3"


def test_thousands_of_equal_experts_are_counted_in_seconds(folder: Path) -> None:
    def add(tensors: Tensors) -> None:
        for number in range(16, 1500):
            tensors[expert(2, number)] = torch.ones(2, 2)
        tensors.update({f"x.{number}": torch.zeros(1) for number in range(100)})

    start = time.process_time()
    report = examine_weights(plant(folder, add))
    assert time.process_time() - start < 10
    copies = [found for found in report.findings if found.check == "experts" and "more" in found.evidence]
    assert [found.evidence["more"] for found in copies] == [1483 - 20]
    assert sum(found.check == "values" for found in report.findings) == 21
