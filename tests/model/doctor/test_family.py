"""The audit of models that transformers runs: planted faults are found in every family, healthy models raise none."""

import functools
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.header import CheckpointError
from model.cli.main import main
from model.doctor import bias, experts, gate, load, ranking, reference
from model.doctor.findings import ERROR, NOTE, WARNING, Report
from model.doctor.prompts import Prompt
from model.doctor.text import examine_text
from model.doctor.weights import examine_weights
from model.families.engine import TransformersEngine
from model.run.request import RunRequest
from tests.families import EXPERTS, VOCAB, saved
from tests.model.doctor.checkpoints import Tensors, configure, plant

LAYER = "model.layers.2."
# Family -> prefix of the router's rows, of the experts, and the names of an expert's matrices; "" for stacked ones.
FAMILIES = {
    "qwen3_moe": ("mlp.gate", "mlp.experts", ("gate_proj", "up_proj", "down_proj")),
    "mixtral": ("block_sparse_moe.gate", "block_sparse_moe.experts", ("w1", "w2", "w3")),
    "gpt_oss": ("mlp.router", "mlp.experts", ()),
    "deepseek_v4": ("ffn.gate", "ffn.experts", ("w1", "w2", "w3")),
    "lfm2_moe": ("feed_forward.gate", "feed_forward.experts", ("w1", "w2", "w3")),
}
BIASES = {"deepseek_v4": "ffn.gate.bias", "lfm2_moe": "feed_forward.expert_bias"}


def copied(model_type: str, to: Path) -> Path:
    return Path(shutil.copytree(saved(model_type), to / model_type))


def matrices(tensors: Tensors, model_type: str, expert: int) -> list[torch.Tensor]:
    """The matrices of an expert, to change in place."""
    _, prefix, names = FAMILIES[model_type]
    if names:
        return [tensors[f"{LAYER}{prefix}.{expert}.{name}.weight"] for name in names]
    return [tensors[f"{LAYER}{prefix}.{name}"][expert] for name in ("gate_up_proj", "down_proj")]


def damage(tensors: Tensors, model_type: str) -> None:
    for source, target in zip(matrices(tensors, model_type, 1), matrices(tensors, model_type, 3), strict=True):
        target.copy_(source)
    for matrix in matrices(tensors, model_type, 7):
        matrix.zero_()
    matrices(tensors, model_type, 6)[-1][2, 5] = torch.nan
    tensors[f"{LAYER}{FAMILIES[model_type][0]}.weight"][5] = 0


def texts(number: int = 4) -> list[Prompt]:
    drawn = torch.randint(3, VOCAB, (number, 100), generator=torch.Generator().manual_seed(5))
    return [Prompt(ids=tuple(row.tolist())) for row in drawn]


def grave(report: Report) -> list[str]:
    return [found.what for found in report.findings if found.severity != NOTE]


def of(report: Report, check: str) -> list[tuple[str, str]]:
    return [(found.severity, found.what) for found in report.findings if found.check == check]


def skipped(report: Report) -> dict[str, str]:
    return {check.name: check.skipped for check in report.checks if check.skipped}


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", [*FAMILIES, "dbrx", "jetmoe", "zaya", "longcat_flash", "gemma4_text"])
def test_healthy_weights_raise_nothing_above_a_note(model_type: str) -> None:
    report = examine_weights(saved(model_type))
    assert grave(report) == []
    assert {experts.NAME, gate.NAME} <= {check.name for check in report.made}
    assert "DeepSeek" in skipped(report)["config"]


@pytest.mark.parametrize("model_type", FAMILIES)
def test_faults_in_the_weights_are_found(model_type: str, tmp_path: Path) -> None:
    folder = plant(copied(model_type, tmp_path), lambda tensors: damage(tensors, model_type))
    report = examine_weights(folder)
    assert of(report, experts.NAME) == [(ERROR, "L2E3 is a copy of E1"), (ERROR, "L2E7 is zero")]
    assert of(report, gate.NAME) == [(ERROR, "L2E5: its router row is all 0")]
    ((severity, what),) = of(report, "values")
    assert severity == ERROR
    assert what.startswith("L2E6")
    assert "1 NaN of" in what
    assert what.endswith("the first at [2,5]")


@pytest.mark.parametrize("model_type", BIASES)
def test_a_large_bias_is_found(model_type: str, tmp_path: Path) -> None:
    def enlarge(tensors: Tensors) -> None:
        tensors[LAYER + BIASES[model_type]][4] = -60.0

    report = examine_weights(plant(copied(model_type, tmp_path), enlarge))
    assert of(report, bias.NAME) == [(WARNING, "L2E4: a bias of -60; at that size bfloat16 has steps of 0.25")]


def test_a_missing_tensor_is_named_and_the_rest_is_audited(tmp_path: Path) -> None:
    name = f"{LAYER}mlp.gate.weight"
    report = examine_weights(plant(copied("qwen3_moe", tmp_path), lambda tensors: tensors.pop(name)))
    (what,) = grave(report)
    assert what.startswith(f"the model cannot be loaded: {name} is missing")
    assert next(check for check in report.checks if check.name == gate.NAME).layers == (0, 1, 3)


def pack(tensors: Tensors) -> None:
    """Store the experts in MXFP4, as gpt-oss publishes them; E3 of layer 2 is a copy of E1, E7 is zero."""
    generator = torch.Generator().manual_seed(3)
    for name in [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, width, outputs = tensors.pop(name).shape
        codes = torch.randint(256, (experts, outputs, width // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(120, 123, codes.shape[:3], generator=generator, dtype=torch.uint8)
        if name.startswith(LAYER):
            codes[3], scales[3], codes[7] = codes[1], scales[1], 0
        tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = codes, scales


def test_experts_in_mxfp4_are_unpacked_and_audited(tmp_path: Path) -> None:
    folder = configure(copied("gpt_oss", tmp_path), quantization_config={"quant_method": "mxfp4"})
    report = examine_weights(plant(folder, pack))
    assert of(report, "manifest") == []
    assert of(report, experts.NAME) == [(ERROR, "L2E3 is a copy of E1"), (ERROR, "L2E7 is zero")]
    assert grave(report) == ["L2E3 is a copy of E1", "L2E7 is zero"]
    assert next(check for check in report.checks if check.name == experts.NAME).layers == (0, 1, 2, 3)


def test_packed_experts_in_another_form_are_named_and_left_out(tmp_path: Path) -> None:
    def drop_scales(tensors: Tensors) -> None:
        pack(tensors)
        for name in [name for name in tensors if name.endswith("_scales")]:
            del tensors[name]

    folder = configure(copied("gpt_oss", tmp_path), quantization_config={"quant_method": "mxfp4"})
    report = examine_weights(plant(folder, drop_scales))
    (_, left_out), *_ = [found for found in of(report, "manifest") if "packed" in found[1]]
    assert left_out.startswith("8 packed tensors are not measured (U8)")
    assert skipped(report)[experts.NAME] == "the folder has no routed experts in a dtype that is measured"


def test_a_configuration_that_cannot_be_built_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = configure(copied("qwen3_moe", tmp_path), hidden_act="no such function")
    with pytest.raises(CheckpointError, match="transformers cannot build this 'qwen3_moe'"):
        examine_weights(folder)


def test_a_dense_model_and_an_unknown_family_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no layer of 'doge' hands a router's selection to experts"):
        examine_weights(saved("doge"))
    folder = configure(copied("qwen3_moe", tmp_path), model_type="qwen9_moe")
    with pytest.raises(CheckpointError, match="does not know model_type 'qwen9_moe'"):
        examine_weights(folder)


# --- text ------------------------------------------------------------------------------------------------------------


def ran(folder: Path) -> Report:
    return examine_text(TransformersEngine.load(folder, "cpu"), texts())


@functools.cache
def healthy(model_type: str) -> Report:
    return ran(saved(model_type))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_healthy_routing_raises_nothing_above_a_note(model_type: str) -> None:
    report = healthy(model_type)
    assert grave(report) == []
    made = {check.name for check in report.made}
    assert {load.LOAD, load.TIES, load.ROUNDING, "own numbers"} <= made
    assert skipped(report)[load.GROUPS] == "the router has no groups"
    assert "compare two traces" in skipped(report)[reference.NAME]
    assert (ranking.NAME in made) == (model_type in BIASES)


def test_no_score_decides_in_a_hash_layer() -> None:
    ties = next(check for check in healthy("deepseek_v4").checks if check.name == load.TIES)
    assert ties.layers == (1, 2, 3)
    rows = healthy("deepseek_v4").measures["Routing layer by layer"]
    assert [row["layer"] for row in rows if row["near ties (bf16)"] != row["near ties (bf16)"]] == [0]


@pytest.mark.parametrize(
    ("model_type", "name", "value"),
    [("deepseek_v4", "ffn.gate.bias", -60.0), ("lfm2_moe", "feed_forward.expert_bias", -9.0),
     ("gpt_oss", "mlp.router.bias", -60.0)],
)  # fmt: skip
def test_an_expert_that_its_bias_keeps_out_is_found(model_type: str, name: str, value: float, tmp_path: Path) -> None:
    def keep_out(tensors: Tensors) -> None:
        tensors[LAYER + name][4] = value

    report = ran(plant(copied(model_type, tmp_path), keep_out))
    ((severity, what),) = [found for found in of(report, load.LOAD) if found[0] != NOTE]
    assert severity == WARNING
    assert what.startswith("L2E4 took no token of 400")


def test_biases_that_bfloat16_cannot_rank_are_found_by_the_run(tmp_path: Path) -> None:
    def shift(tensors: Tensors) -> None:
        tensors[LAYER + BIASES["deepseek_v4"]] += 60.0

    report = ran(plant(copied("deepseek_v4", tmp_path), shift))
    ((severity, what),) = of(report, ranking.NAME)
    assert severity == WARNING
    assert what.startswith("L2: with scores in bfloat16")


def test_a_router_without_a_known_rule_is_judged_by_its_load_alone() -> None:
    report = healthy("inkling_text")
    assert load.LOAD in {check.name for check in report.made}
    assert [found.check for found in report.findings if found.severity == ERROR] == []


def test_choices_that_compute_nothing_are_no_dead_experts() -> None:
    assert all(found.expert is None or found.expert < EXPERTS for found in healthy("longcat_flash").findings)


def test_a_model_of_another_family_is_not_compared_with_a_reference() -> None:
    engine = TransformersEngine.load(saved("qwen3_moe"), "cpu")
    trace = engine.run(_request(texts(1)[0]))
    with pytest.raises(reference.UnusableReferenceError, match="runs through transformers, but the check that"):
        examine_text(engine, [], trace)


def _request(prompt: Prompt) -> RunRequest:
    return RunRequest(token_ids=prompt.ids)


def test_the_command_audits_a_folder(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"ids": [' + ",".join(map(str, range(3, 250))) + "]}\n")
    result = CliRunner().invoke(main, ["doctor", str(saved("mixtral")), "--prompts", str(prompts)])
    assert result.exit_code == 0, result.output
    assert "mixtral: 0 errors" in result.output
    assert "bf16 against fp32" in result.output
