"""The facts of a model folder: the same numbers as the command line says, for the own network without torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.checkpoint.sizes import model_sizes
from model.checkpoint.weights import save_model
from model.families.facts import facts_of
from model.network.config import ModelConfig
from pages.common import models
from pages.frame.sidebar import sidebar
from pages.frame.sidebar.described import describe
from tests.families import saved
from tests.models import random_model, tiny_config
from tests.parameters import count_parameters

EMBEDDED = [path.parent for path in sorted(models.PRESETS.glob("*/config.json"))]


def sizes(folder: Path) -> list[str]:
    """The first lines of the card."""
    described = describe(folder)
    return [*([described.size] if described.size else []), *described.card[:1]]


def expected(config: ModelConfig) -> list[str]:
    total, active = count_parameters(config)
    cached = model_sizes(config).cache["bfloat16"]["MLA"]
    return [
        f"{total / 1e6:,.1f} M parameters, {active / 1e6:,.1f} M active",
        f"{cached:,} bytes of cache per token (bfloat16)",
    ]


@pytest.mark.parametrize("folder", EMBEDDED, ids=lambda folder: folder.name)
def test_numbers_are_those_of_the_command_line(folder: Path) -> None:
    config = ModelConfig.from_json(json.loads((folder / "config.json").read_text()))
    assert sizes(folder) == expected(config)


def test_block_scales_are_not_counted(tmp_path: Path) -> None:
    config = tiny_config(hidden_size=1024, expert_width=512)
    save_model(random_model(config), tmp_path / "tiny", torch.bfloat16, fp8_scales=torch.float32)
    assert sizes(tmp_path / "tiny") == expected(config)


def test_configuration_without_weights_still_says_its_cache(tmp_path: Path) -> None:
    config = tiny_config()
    (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
    assert sizes(tmp_path) == expected(config)[1:]
    assert not describe(tmp_path).opens


def test_a_folder_that_cannot_be_opened_has_its_reason_in_one_line_without_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, content, reason in (
        ("", "", "config.json cannot be read: No such file or directory"),
        ("model.gguf", "", "model.gguf is a file of llama.cpp"),
        ("config.json", '{"model_type": "no_such_family"}', "a newer version may: pip install -U transformers"),
    ):
        if name:
            (folder / name).write_text(content)
        models.config.clear()  # pyright: ignore[reportFunctionMemberAccess]
        described = describe(folder)
        (line,) = described.missing
        assert not described.opens
        assert str(tmp_path) not in line
        assert "\n" not in line
        assert reason in line
        (folder / "model.gguf").unlink(missing_ok=True)
        assert sidebar.lines_of(described)


def test_a_family_states_the_facts_of_the_command_line() -> None:
    folder, described = saved("jamba"), describe(saved("jamba"))
    facts = facts_of(folder)
    assert described.opens
    assert (described.parameters, described.active) == (facts.parameters, facts.active_parameters)
    assert described.recorded == f"router, attention of {len(facts.attention_layers)} layers, inputs, logits"
    assert described.missing[0] == "attention of 2 layers (linear_attention): it has no weights"
    assert f"{facts.num_layers} layers" in sidebar.lines_of(described)
    assert (described.family, described.engine, described.top_k) == ("jamba", "transformers", facts.top_k)


def test_several_streams_are_named_as_the_reason_why_inputs_are_missing() -> None:
    described = describe(saved("deepseek_v4"))
    assert "inputs" not in described.recorded
    assert any("residual streams" in reason for reason in described.missing)


def test_first_screen_need_not_wait_for_torch() -> None:
    script = (
        "import sys; from pathlib import Path; from pages.frame.sidebar.described import describe;"
        "describe(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(EMBEDDED[0])]
    assert subprocess.run(command, cwd=models.PRESETS.parents[1], check=False).returncode == 0
