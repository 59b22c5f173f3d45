"""The command `import`: a file, a model, a trace; and the models that can be named."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from model.checkpoint.named import named_model
from model.checkpoint.weights import save_model
from model.cli.import_file import SCRIPT_BEGINS
from model.cli.main import main
from model.run.engine import Engine
from model.run.request import RunRequest
from model.trace.file import load, save
from model.trace.imports.count_formats import read_counts_file
from model.trace.imports.formats import read
from model.train.data.bpe import train_vocabulary
from tests import engines
from tests.models import random_model, tiny_config
from tests.traces import random_trace

IDS = engines.random_ids()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(random_model(tiny_config()), path, torch.float32)
    train_vocabulary(["The wolf saw the moon.\n" * 20], 320, show_progress=False).save(str(path / "tokenizer.json"))
    return path


@pytest.fixture
def answer(tmp_path: Path) -> Path:
    path = tmp_path / "answer.json"
    path.write_bytes(engines.as_json(engines.vllm_npy(IDS)))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["import", *map(str, arguments)])


def refused(result: Result, out: Path) -> str:
    assert result.exit_code == 2
    assert not out.exists()
    assert result.output.count("\n") == 1
    return result.output


def test_an_answer_becomes_a_trace_file(answer: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = run(answer, "--model", folder, "--out", out)
    assert result.exit_code == 0, result.output
    trace = load(out)
    assert np.array_equal(trace.data["expert_id"].values[:6], IDS)
    assert [token.id for token in trace.tokens] == [*engines.PROMPT_IDS, *engines.NEW_IDS]
    words = named_model(folder)
    assert words.label is not None
    assert (trace.tokens, trace.text) == words.label([*engines.PROMPT_IDS, *engines.NEW_IDS], 4)
    for said in ("7 tokens of tiny", "experts of 6 tokens, layers 1 to 4, 4 per token", "missing: weights (vLLM"):
        assert said in result.output


def test_text_is_encoded_by_the_models_own_tokenizer_when_counts_agree(folder: Path, tmp_path: Path) -> None:
    words = named_model(folder)
    assert words.encode is not None
    ids = [*words.first_ids, *words.encode("The wolf")]
    new = words.encode(" saw")
    response = {
        "text": " saw",
        "meta_info": engines.usage(len(ids), len(new))
        | {"routed_experts": engines.flat(engines.random_ids(len(ids) + len(new) - 1))},
    }
    trace = read(engines.as_json({"request": {"text": "The wolf"}, "response": response}), "auto", words)
    assert trace.text == b"The wolf saw"
    assert [token.id for token in trace.tokens] == [*ids, *new]
    response["meta_info"] |= engines.usage(len(ids) + 1, len(new) - 1)
    other = read(engines.as_json({"request": {"text": "The wolf"}, "response": response}), "auto", words)
    assert {token.id for token in other.tokens} == {-1}
    assert any("token ids" in note for note in other.origin["notes"])


def test_the_choice_of_our_own_model_comes_back_from_its_logits(folder: Path, tmp_path: Path) -> None:
    trace = Engine.load(folder, device="cpu").run(RunRequest(token_ids=tuple(range(5, 45))))
    score = trace.data["router_score"].values.astype(np.float64)
    file, out = tmp_path / "logits.safetensors", tmp_path / "out.safetensors"
    file.write_bytes(engines.router_logits(np.log(score / (1 - score)).astype(np.float32)))
    result = run(file, "--model", folder, "--out", out)
    assert result.exit_code == 0, result.output
    assert "derived: router_score, expert_id" in result.output
    again = load(out)
    assert again.data["router_score"].values == pytest.approx(score, abs=1e-6)
    assert np.array_equal(again.data["expert_bias"], trace.data["expert_bias"])
    assert np.array_equal(again.data["expert_id"], trace.data["expert_id"])
    assert again.data["gate_weight"].values == pytest.approx(trace.data["gate_weight"].values, abs=1e-5)
    assert np.array_equal(again.data["group_kept"], trace.data["group_kept"])


def test_released_configurations_can_be_named() -> None:
    for name in ("deepseek-v3", "deepseek-v3.2"):
        assert named_model(name).shape.moe_layers == tuple(range(3, 61))
    with pytest.raises(ValueError, match="deepseek-v4 lacks config.json"):
        named_model("deepseek-v4")


def test_a_folder_of_a_config_alone_is_enough(tmp_path: Path, answer: Path) -> None:
    only = tmp_path / "only"
    only.mkdir()
    (only / "config.json").write_text(json.dumps(engines.CONFIG))
    result = run(answer, "--model", only, "--out", tmp_path / "out.safetensors")
    assert result.exit_code == 0, result.output
    assert load(tmp_path / "out.safetensors").text == b""


def test_our_own_file_needs_no_model(tmp_path: Path) -> None:
    save(random_trace(), tmp_path / "ours.safetensors")
    result = run(tmp_path / "ours.safetensors", "--out", tmp_path / "out.safetensors")
    assert result.exit_code == 0, result.output
    assert "10 tokens of random, MoE Loupe trace" in result.output


def test_unusable_input_ends_in_one_line(answer: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    broken, dump = tmp_path / "broken.json", tmp_path / "dump.pt"
    broken.write_bytes(answer.read_bytes()[:-40])
    dump.write_bytes(b"PK\x03\x04archive")
    assert "not whole JSON" in refused(run(broken, "--format", "vllm", "--model", folder, "--out", out), out)
    assert "import --help" in refused(run(dump, "--model", folder, "--out", out), out)
    assert "name the model" in refused(run(answer, "--out", out), out)
    assert "58 with experts" in refused(run(answer, "--model", "deepseek-v3", "--out", out), out)
    said = refused(run(answer, "--model", "nothing", "--out", out), out)
    assert "nothing is neither a released configuration (deepseek-v3, deepseek-v3.2) nor a folder nor an emb" in said
    assert "cannot be read" in refused(run(tmp_path / "absent", "--model", folder, "--out", out), out)
    assert "none of number 4" in refused(run(answer, "--model", folder, "--choice", 4, "--out", out), out)
    assert "does not exist" in run(answer, "--model", folder, "--out", tmp_path / "no" / "out").output
    assert "whole JSON" in refused(run(answer, "--model", folder, "--request", broken, "--out", out), out)


def test_help_prints_a_script_that_converts_a_dump(tmp_path: Path, folder: Path) -> None:
    script = tmp_path / "convert.py"
    script.write_text(run("--help").output.partition(SCRIPT_BEGINS)[2])
    dump = engines.recorder_dump(IDS)
    for record in dump["records"]:
        record["topk_ids_of_layer"] = torch.tensor(record["topk_ids_of_layer"], dtype=torch.int32)
        record |= {"gatherer_key": "primary", "misc_objects": [], "forward_mode": 1}
    dump["last_physical_to_logical_map"] = torch.tensor(dump["last_physical_to_logical_map"])
    torch.save({name: dump[name] for name in ("records", "last_physical_to_logical_map")}, tmp_path / "dump.pt")
    command = [sys.executable, str(script), str(tmp_path / "dump.pt"), str(tmp_path / "dump.json")]
    subprocess.run(command, check=True, capture_output=True)
    result = run(tmp_path / "dump.json", "--model", folder, "--out", tmp_path / "out.safetensors")
    assert result.exit_code == 0, result.output
    assert np.array_equal(load(tmp_path / "out.safetensors").data["expert_id"].values, IDS)


def test_the_same_script_converts_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(1).integers(1, 9, (3, 5, 16))
    counts[:, 0] = 0
    script, dump = tmp_path / "convert.py", tmp_path / "dump.json"
    script.write_text(run("--help").output.partition(SCRIPT_BEGINS)[2])
    torch.save({"rank": 0, "logical_count": torch.tensor(counts)}, tmp_path / "dump.pt")
    monkeypatch.setattr(sys, "argv", ["convert.py", str(tmp_path / "dump.pt"), str(dump)])
    runpy.run_path(str(script))
    assert np.array_equal(read_counts_file(dump, engines.TINY).windows, counts[:, 1:])
    out = tmp_path / "out.safetensors"
    assert "holds counts of experts and no tokens" in refused(run(dump, "--model", "mini-v3", "--out", out), out)


def test_help_needs_neither_torch_nor_xarray() -> None:
    code = "import sys, model.cli.import_file; assert not {'torch', 'xarray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
