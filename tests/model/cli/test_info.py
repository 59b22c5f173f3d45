"""The command `info`: what it prints of a folder, and of one that cannot be loaded."""

import json
from pathlib import Path

import torch

from model.checkpoint.weights import save_model
from tests.families import saved
from tests.model.cli.command_line import refused, run
from tests.models import random_model, tiny_config

END = "logits; float32, bfloat16, float16"


def test_info_describes_a_model(folder: Path) -> None:
    result = run("info", folder)
    assert result.exit_code == 0, result.output
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    total = sum(tensor.numel() for tensor in random_model(tiny_config()).state_dict().values())
    idle = 4 * (16 - 4) * 3 * 48 * 24
    assert facts["parameters"].startswith(f"{total:,} in total, {total - idle:,} active for a token")
    assert facts["cache"] == f"{5 * (16 + 8) * 2} bytes per token in bfloat16, {5 * (16 + 8) * 4} in float32"
    assert facts["supported"].startswith("yes")
    assert facts["tokenizer"] == "tokenizer.json"
    assert "skipped" not in facts


def test_info_lists_what_is_skipped_and_escapes_it(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = tmp_path / "more"
    save_model(random_model(tiny_config()), model, torch.float32)
    extra = {"extra\x1b[31m": torch.zeros(1), "model.layers.5.enorm.weight": torch.zeros(1)}
    save_file(load_file(model / "model.safetensors") | extra, model / "model.safetensors")
    lines = run("info", model).stdout.splitlines()
    assert "skipped      1 tensors of layer 5, multi-token prediction:" in lines
    assert lines[-1].strip() == "extra\\x1b[31m"


def test_info_of_a_model_that_cannot_be_loaded_says_why(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "other"
    save_model(random_model(tiny_config()), model, torch.float32)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    result = run("info", model)
    refused(result, "cannot be loaded: tensor model.embed_tokens.weight has shape [320, 48]")
    assert "supported    no" in result.stdout


def test_info_names_the_keys_that_are_not_known(tmp_path: Path) -> None:
    model = tmp_path / "new"
    save_model(random_model(tiny_config()), model, torch.float32)
    config = json.loads((model / "config.json").read_text()) | {"spin\x1b": 1, "index_topk": 8, "seq_aux": True}
    (model / "config.json").write_text(json.dumps(config))
    lines = run("info", model).stdout.splitlines()
    assert lines[-2:] == [
        "note         config.json: index_topk 8 has no effect: deepseek_v3 has no indexer",
        "note         config.json has keys that are not known here, and have no effect: spin\\x1b",
    ]


def test_info_describes_a_folder_that_transformers_runs() -> None:
    result = run("info", saved("kimi_linear"))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "model        kimi_linear, 4 layers, 3 of them MoE layers"
    assert "experts      8 routed in each of 3 blocks" in lines
    stated = "stated: moe_renormalize true, routed_scaling_factor 1.7"
    assert f"router       top 3, from 1 kept of 2 groups; {stated}; the first run finds its rule" in lines
    assert "not captured attention of 2 layers (linear_attention): it has no weights" in lines
    assert f"supported    yes; capture router, attention of 2 layers, inputs, {END}" in lines


def test_info_refuses_in_one_line_what_transformers_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen9_moe"}))
    refused(run("info", tmp_path), "does not know model_type 'qwen9_moe'; a newer version may: pip install -U")
