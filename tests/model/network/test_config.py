"""Reading and writing config.json: both spellings, and refusals that name what is not supported."""

import pytest

from model.network.config import ModelConfig
from model.network.rope import ConfigError, Yarn
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
        ({"routed_scaling_factor": "2.5"}, "routed_scaling_factor must be a number from 0 on, not '2.5'"),
        ({"routed_scaling_factor": float("inf")}, "routed_scaling_factor must be a number"),
        ({"routed_scaling_factor": 10**400}, "routed_scaling_factor must be a number"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps must be a number from 0 on, not '1e-6'"),
        ({"rms_norm_eps": True}, "rms_norm_eps must be a number"),
        ({"norm_topk_prob": "false"}, "norm_topk_prob must be true or false, not 'false'"),
        ({"tie_word_embeddings": 0}, "tie_word_embeddings must be true or false, not 0"),
        ({"attention_bias": []}, "attention_bias must be true or false"),
        ({"mtp_reads_normed": "no"}, "mtp_reads_normed must be true or false"),
        ({"q_lora_rank": "a"}, "q_lora_rank must be a whole number or null, not 'a'"),
        ({"bos_token_id": [0]}, "bos_token_id must be a whole number or null"),
        ({"eos_token_id": ["a"]}, "eos_token_id must be a whole number or null"),
        ({"rope_theta": "b"}, "rope_theta must be a number above 0"),
        ({"rope_theta": 0}, "rope_theta must be a number above 0"),
        ({"rope_theta": 1, "rope_scaling": PUBLISHED_YARN}, "yarn needs a rope_theta above 1"),
        ({"rope_scaling": PUBLISHED_YARN | {"factor": "x"}}, "factor must be a number above 0, not 'x'"),
        ({"rope_scaling": PUBLISHED_YARN | {"factor": 0}}, "factor must be a number above 0"),
        ({"rope_scaling": PUBLISHED_YARN | {"beta_slow": -1}}, "beta_slow must be a number above 0"),
        ({"rope_scaling": PUBLISHED_YARN | {"mscale": "1"}}, "mscale must be a number above 0"),
        ({"rope_scaling": PUBLISHED_YARN | {"original_max_position_embeddings": 0.5}}, "of at least 1"),
    ],
)
def test_refusals_name_the_key(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_json(published(**changes))


SPARSE = {"model_type": "deepseek_v32", "index_n_heads": 4, "index_head_dim": 16, "index_topk": 8}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (SPARSE | {"index_topk": 0}, "index_topk must be at least 1"),
        (SPARSE | {"q_lora_rank": None}, "an indexer needs q_lora_rank"),
        (SPARSE | {"index_head_dim": 4}, "index_head_dim 4 is less than the 8 rotated channels"),
        (SPARSE | {"indexer_types": ["full"]}, "indexer_types must say"),
        (SPARSE | {"indexer_types": ["shared"] * 5}, "the first layer cannot share"),
        (SPARSE | {"mlp_layer_types": ["sparse", "dense"]}, "mlp_layer_types"),
        (SPARSE | {"mlp_layer_types": 3}, "mlp_layer_types"),
        (SPARSE | {"indexer_types": 5}, "indexer_types must say"),
        (SPARSE | {"indexer_types": [["full"]] * 5}, "indexer_types must say"),
        (SPARSE | {"index_n_heads": "4"}, "index_n_heads must be a whole number"),
        (SPARSE | {"index_topk_freq": "2"}, "index_topk_freq, index_skip_topk_offset and num_hidden_layers must be"),
        (SPARSE | {"index_topk_freq": 2, "num_hidden_layers": None}, "num_hidden_layers must be whole numbers"),
        (SPARSE | {"index_topk_freq": 2, "index_skip_topk_offset": "2"}, "index_skip_topk_offset"),
        ({"model_type": "deepseek_v2"}, "scoring_func 'sigmoid' is not supported for deepseek_v2"),
        (
            {"model_type": "deepseek_v2", "scoring_func": "softmax", "topk_method": "greedy"},
            "norm_topk_prob True is not supported for deepseek_v2",
        ),
        ({"mlp_bias": True}, "mlp_bias True"),
    ],
)
def test_refusals_of_the_family_name_the_key(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_json(published(**changes))


@pytest.mark.parametrize(
    "config",
    [
        tiny_config(model_type="kimi_k2", num_groups=1, num_kept_groups=1),
        tiny_config(model_type="deepseek_v32", index_heads=4, index_head_dim=16, index_topk=8),
        tiny_config(
            model_type="glm_moe_dsa", index_heads=4, index_head_dim=16, index_topk=8,
            indexer_types=("full", "shared", "shared", "full", "shared"),
        ),
        tiny_config(
            model_type="deepseek_v2", scoring="softmax", selection="group_limited_greedy", normalise_weights=False
        ),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
def test_round_trip_of_the_family(config: ModelConfig) -> None:
    assert ModelConfig.from_json(config.to_json()) == config


def test_layers_that_share_a_selection() -> None:
    glm = published(**SPARSE | {"model_type": "glm_moe_dsa"})
    assert ModelConfig.from_json(glm).indexer_layers == (0, 1, 2, 3, 4)
    assert ModelConfig.from_json(glm | {"index_topk_pattern": "FSFSS"}).indexer_layers == (0, 2)
    assert ModelConfig.from_json(glm | {"index_topk_freq": 3}).indexer_layers == (0, 1, 4)
    assert ModelConfig.from_json(glm).index_interleaved
    assert not ModelConfig.from_json(published(**SPARSE)).index_interleaved


def test_greedy_v2_has_no_groups() -> None:
    values = {"model_type": "deepseek_v2", "scoring_func": "softmax", "norm_topk_prob": False, "n_group": None}
    config = ModelConfig.from_json(published(**values | {"topk_method": "greedy", "topk_group": None}))
    assert (config.num_groups, config.num_kept_groups) == (1, 1)
    assert not config.has_selection_bias


def test_missing_key_is_named() -> None:
    config = published()
    del config["kv_lora_rank"]
    with pytest.raises(ConfigError, match="lacks kv_lora_rank"):
        ModelConfig.from_json(config)


def test_layers_are_model_layers() -> None:
    assert tiny_config(num_layers=6, num_dense_layers=3).moe_layers == (3, 4, 5)
