"""Reading and writing config.json: both spellings, and refusals that name what is not supported."""

import pytest

from model.network.config import ConfigError, ModelConfig, Yarn
from tests.models import tiny_config

PUBLISHED_YARN = {
    "type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1,
    "mscale": 1.0, "mscale_all_dim": 1.0,
}  # fmt: skip


def published(**changes: object) -> dict:
    return tiny_config().to_json() | changes


@pytest.mark.parametrize("yarn", [None, Yarn(factor=4, original_max_positions=64, mscale=1, mscale_all_dim=0.5)])
def test_round_trip(yarn: Yarn | None) -> None:
    config = tiny_config(yarn=yarn, q_lora_rank=None, rope_theta=5000.0)
    assert ModelConfig.from_json(config.to_json()) == config


def test_old_and_new_rope_spelling_agree() -> None:
    old = ModelConfig.from_json(published(rope_theta=20000, rope_scaling=PUBLISHED_YARN))
    new_rope = PUBLISHED_YARN | {"rope_type": "yarn", "rope_theta": 20000}
    new = {key: value for key, value in published().items() if key not in ("rope_theta", "rope_scaling")}
    assert ModelConfig.from_json(new | {"rope_parameters": new_rope}) == old
    assert old.rope_theta == 20000
    assert old.yarn is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mixtral"}, "model_type 'mixtral' is not supported"),
        ({"scoring_func": "softmax"}, "scoring_func 'softmax' is not supported"),
        ({"topk_method": "greedy"}, "topk_method 'greedy' is not supported"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope scaling 'linear'"),
        ({"rope_scaling": {"type": "yarn"}}, "rope scaling lacks factor"),
        ({"rope_interleave": False}, "rope_interleave False"),
        ({"num_key_value_heads": 1}, "num_key_value_heads 1 differs"),
        ({"n_group": 3}, "not a multiple of n_group 3"),
        ({"num_experts_per_tok": 9}, "not between 1 and the 8 experts kept"),
        ({"topk_group": 5}, "topk_group 5"),
        ({"hidden_size": "wide"}, "hidden_size must be a whole number"),
        ({"hidden_size": 0}, "hidden_size must be at least 1"),
    ],
)
def test_refusals_name_the_key(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_json(published(**changes))


def test_missing_key_is_named() -> None:
    config = published()
    del config["kv_lora_rank"]
    with pytest.raises(ConfigError, match="lacks kv_lora_rank"):
        ModelConfig.from_json(config)


def test_layers_are_model_layers() -> None:
    assert tiny_config(num_layers=6, num_dense_layers=3).moe_layers == (3, 4, 5)
