"""The recorded examples: written by their command, and equal to a run today."""

import gzip
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.embedded import embedded_models
from model.checkpoint.weights import save_model
from model.run import counterfactual_file, recorded
from model.run.counterfactual import Counterfactual, Question
from model.run.engine import Engine
from model.run.request import Capture, RunRequest
from model.trace import file
from model.trace.trace import Trace
from model.train.data.bpe import train_vocabulary
from tests.models import random_model, tiny_config


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "recorded"
    folder.mkdir()
    (folder / "prompts.json").write_text('{"Story": "the sun"}', encoding="utf-8")
    monkeypatch.setattr(recorded, "FOLDER", folder)
    return folder


def saved(folder: Path, **shape: object) -> Path:
    model = folder.parent / "tiny"
    save_model(random_model(tiny_config(**shape)), model, torch.float32)
    train_vocabulary(["the sun and the wolf and the hill"], 300, show_progress=False).save(
        str(model / "tokenizer.json")
    )
    return model


def test_prompts_are_short_and_distinct() -> None:
    prompts = json.loads((recorded.FOLDER / "prompts.json").read_text(encoding="utf-8"))
    assert list(prompts)[0] == "Story"
    assert len(set(prompts.values())) == len(prompts) == 12
    assert all(prompts.values())


def test_story_has_the_settings_of_the_first_screen(folder: Path) -> None:
    trace = file.load(recorded.record_story(folder, saved(folder)))
    request = RunRequest.from_json(trace.request)
    assert (request.prompt, request.max_new_tokens, request.temperature, request.seed) == ("the sun", 48, 0.7, 0)
    assert trace.has("attention")
    assert trace.has("layer_input")


def test_sparse_example_holds_the_selection_and_what_dense_attention_is_computed_from(folder: Path) -> None:
    path = recorded.record_sparse(
        folder, saved(folder, model_type="deepseek_v32", index_heads=4, index_head_dim=12, index_topk=6)
    )
    trace = file.loads(gzip.decompress(path.read_bytes()))
    assert {"indexer_score", "indexer_kept", "layer_input"} <= set(trace.data)
    assert trace.origin["dtype"] == "bfloat16"


def test_command_records_the_named_examples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "EXAMPLES", {"story": (recorded.record_story, "mini")})
    monkeypatch.setattr(recorded, "embedded_models", lambda: ["mini"])
    load = Engine.load
    monkeypatch.setattr(Engine, "load", lambda model, **options: load(saved(folder), **options))
    result = CliRunner().invoke(recorded.main, ["story"])
    assert "story.safetensors" in result.output
    assert (folder / "story.safetensors").is_file()


def test_without_its_model_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "embedded_models", list)
    result = CliRunner().invoke(recorded.main)
    assert result.exit_code == 2
    assert "story needs the embedded model mini-v3" in result.output


# --- the shipped files -----------------------------------------------------------------------------------------------


def fed(trace: Trace, model: str, dtype: str = "float32") -> Trace:
    """Return a new run of an embedded model over all tokens of a trace, with the same variables."""
    capture = Capture(frozenset(trace.request["capture"]["variables"]) - {"drafts"})
    engine = Engine.load(model, device="cpu", dtype=dtype)
    return engine.run(RunRequest(token_ids=tuple(trace.data["token_id"].values.tolist()), capture=capture))


@pytest.mark.skipif("mini-v3" not in embedded_models(), reason="mini-v3 is not installed")
def test_the_story_is_what_mini_v3_computes_today() -> None:
    trace = file.load(recorded.FOLDER / "story.safetensors")
    now = fed(trace, "mini-v3")
    assert now.model["weights_sha256"] == trace.model["weights_sha256"]
    for name in ("router_score", "gate_weight", "attention", "logprob"):
        ours, theirs = trace.data[name].values, now.data[name].values
        assert np.nanmean(np.abs(ours - theirs)) < 1e-4 * np.nanmean(np.abs(theirs)), name
    assert (trace.data["expert_id"].values == now.data["expert_id"].values).mean() > 0.999


@pytest.mark.skipif("mini-v32" not in embedded_models(), reason="mini-v32 is not installed")
def test_the_sparse_example_is_what_mini_v32_computes_today() -> None:
    trace = file.loads(gzip.decompress((recorded.FOLDER / "sparse.safetensors.gz").read_bytes()))
    now = fed(trace, "mini-v32", dtype="bfloat16")
    assert now.model["weights_sha256"] == trace.model["weights_sha256"]
    visible = np.tri(trace.num_tokens, dtype=bool)
    scores, fresh = (one.data["indexer_score"].values[:, visible] for one in (trace, now))
    assert np.abs(scores - fresh).mean() < 0.03 * np.abs(fresh).mean()  # bfloat16 rounds by 0.4 %
    kept, chosen_now = (one.data["indexer_kept"].values[:, visible] for one in (trace, now))
    assert (kept == chosen_now).mean() > 0.99
    assert (~kept).sum() == (~chosen_now).sum() > 0


@pytest.mark.skipif("mini-v3" not in embedded_models(), reason="mini-v3 is not installed")
def test_the_counterfactual_is_what_mini_v3_computes_today() -> None:
    """After a change of the control, record it anew: `make recorded ARGS=counterfactual`."""
    result = counterfactual_file.loads((recorded.FOLDER / "counterfactual.safetensors.gz").read_bytes())
    story = file.load(recorded.FOLDER / "story.safetensors")
    now = Counterfactual(Question.about(story, result.question.interventions))
    for _ in now.run(Engine.load("mini-v3", device="cpu"), threading.Event()):
        pass
    assert now.question == result.question
    for name in counterfactual_file.EFFECTS:
        ours, theirs = getattr(result, name), getattr(now, name)
        for variable in ("kl", "logprob_change"):
            assert np.nanmean(np.abs(ours[variable] - theirs[variable])) < 1e-3 * np.nanmean(np.abs(theirs[variable]))
        assert np.abs(ours["equal_sets"] - theirs["equal_sets"]).max() <= 1 / story.num_tokens + 1e-9
    ours, theirs = result.control, now.control
    assert ours is not None
    assert theirs is not None
    assert len(ours.draws) == len(theirs.draws)
    assert (ours.num_rerouted, ours.num_matched) == (theirs.num_rerouted, theirs.num_matched)
    assert result.written is not None
    assert now.written is not None
    assert result.written.text == now.written.text
