"""The schedule as a function of the step, and configurations that are refused."""

from pathlib import Path

import pytest

from model.network.config import ModelConfig
from model.train.config import TrainConfig, TrainConfigError, load_config

CONFIGS = Path(__file__).parents[3] / "model" / "train" / "configs"


def config(**changes: object) -> TrainConfig:
    settings: dict[str, object] = dict(
        total_steps=100,
        warmup_steps=10,
        decay_steps=20,
        learning_rate=1e-3,
        sequence_length=8,
        batch_size=2,
        bias_speed=0.01,
        bias_off_steps=5,
    )
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]


def test_rate_rises_stays_and_falls() -> None:
    rates = [config().rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9:80] == pytest.approx([1e-3] * 71)
    assert rates[80] == pytest.approx(1e-3 * 20 / 21)
    assert rates[99] == pytest.approx(1e-3 / 21)


def test_rate_without_warmup_and_decay_is_constant() -> None:
    plain = config(warmup_steps=0, decay_steps=0)
    assert {plain.rate(step) for step in range(100)} == {1e-3}


def test_bias_rests_over_the_last_steps() -> None:
    assert [config().bias_speed_at(step) for step in (0, 94, 95, 99)] == [0.01, 0.01, 0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_steps": 0}, "at least 1"),
        ({"look_steps": 0}, "look_steps must be at least 1"),
        ({"checkpoint_steps": 0}, "checkpoint_steps must be at least 1"),
        ({"total_steps": 20}, "exceed total_steps"),
        ({"dtype": "float16"}, "bfloat16 or float32"),
        ({"batch_size": 1.5}, "batch_size must be of type int"),
        ({"seed": True}, "seed must be of type int"),
        ({"mixture": {"code.python": -1.0}}, "mixture must hold factors of at least 0"),
        ({"mixture": {"code.python": "much"}}, "mixture must hold factors of at least 0"),
        ({"mixture": 2.0}, "mixture must be of type dict"),
    ],
)
def test_unusable_setting_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TrainConfigError, match=message):
        config(**changes)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configurations_load(path: Path) -> None:
    shape, settings = load_config(path)
    if isinstance(shape, ModelConfig):
        assert shape.num_experts == 32
        assert settings.sequence_length <= shape.max_positions
    else:
        assert shape.start.startswith("runs/")  # made by an earlier stage


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[train]\n", r"lacks the table \[model\]"),
        ("[model]\n[train]\nspeed = 1", "missing"),
        ("=", "TOML|Invalid"),
        ("[continue]\n[mtp]\n[train]\n", r"\[mtp\] is not allowed beside \[continue\] and \[train\]"),
        ("[modle]\n[train]\n", r"\[modle\] is not allowed"),
    ],
)
def test_unusable_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(content)
    with pytest.raises(TrainConfigError, match=message):
        load_config(path)
