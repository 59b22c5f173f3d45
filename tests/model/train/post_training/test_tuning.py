"""What the stages share: how a finished model is stored, and settings that are refused."""

from pathlib import Path

import pytest

from model.checkpoint.weights import inspect
from model.train.config import InstructConfig, RewardConfig, TrainConfig, TrainConfigError
from model.train.export import export
from model.train.freezing import freeze_indexers
from tests.models import random_model, tiny_config

SPARSE = {"model_type": "deepseek_v32", "index_heads": 4, "index_head_dim": 12, "index_topk": 5}
PROJECTION = "model.layers.0.self_attn.o_proj.weight"


@pytest.mark.parametrize(
    ("store", "changes", "dtype"),
    [
        ("float32", SPARSE, "F32"),
        ("bfloat16", SPARSE, "BF16"),
        ("fp8", {}, "F8_E4M3"),
        ("auto", {}, "BF16"),
        ("auto", SPARSE, "F8_E4M3"),
    ],
)
def test_weights_are_stored_as_asked(tmp_path: Path, store: str, changes: dict[str, object], dtype: str) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    export(random_model(tiny_config(num_layers=2, **changes)), tmp_path / "tokenizer.json", tmp_path / "made", store)
    manifest = inspect(tmp_path / "made")
    assert manifest.stored[PROJECTION].dtype == dtype
    assert not manifest.problems


def test_all_learn_but_the_indexers() -> None:
    model = freeze_indexers(random_model(tiny_config(num_layers=2, **SPARSE)))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    frozen = {name for name, _ in model.named_parameters()} - learning
    assert frozen
    assert all(".attention.indexer." in name for name in frozen)
    assert not any("indexer" in name for name in learning)
    assert model.training


@pytest.mark.parametrize("shares", [{"arithmetic": 0.8, "math": 0.3}, {"arithmetic": -0.1}])
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(TrainConfigError, match="together at most 1"):
        InstructConfig(start="mini-v32", shares=shares)


def test_no_answers_and_an_unknown_form_are_refused() -> None:
    with pytest.raises(TrainConfigError, match="answers and new_tokens must be at least 1"):
        RewardConfig(start="mini-v32", answers=0)
    with pytest.raises(TrainConfigError, match="store must be auto, float32, bfloat16 or fp8, not 'int8'"):
        TrainConfig(
            total_steps=1, warmup_steps=0, decay_steps=0, learning_rate=1e-3, sequence_length=8, batch_size=1,
            bias_speed=0.0, store="int8",
        )  # fmt: skip
