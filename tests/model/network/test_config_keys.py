"""Every key of a published configuration is read, known to change nothing, or refused; contradictions are refused."""

import importlib
import json
from typing import Any

import pytest

from model.checkpoint.embedded import RELEASED, released_config
from model.network.config import ModelConfig, unknown_keys, unused_keys
from model.network.config_keys import ALIASES, ONLY_NEUTRAL, WITHOUT_EFFECT
from model.network.rope import ConfigError
from tests.models import tiny_config

YARN = {
    "type": "yarn", "factor": 40, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1,
    "mscale": 1.0, "mscale_all_dim": 1.0,
}  # fmt: skip
DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
CLASSES = {
    "deepseek_v2": "DeepseekV2Config",
    "deepseek_v3": "DeepseekV3Config",
    "deepseek_v32": "DeepseekV32Config",
    "glm_moe_dsa": "GlmMoeDsaConfig",
}
# Kept in configurations that were published, beside what transformers' classes know.
PUBLISHED = (
    "aux_loss_alpha", "auto_map", "ep_size", "first_k_dense_replace", "indexer_rope_interleave", "moe_layer_freq",
    "num_nextn_predict_layers", "pretraining_tp", "quantization_config", "qk_head_dim", "rope_scaling", "rope_theta",
    "scoring_func", "seq_aux", "topk_method", "torch_dtype", "index_topk_freq", "index_topk_pattern",
    "index_skip_topk_offset", "unsloth_version",
)  # fmt: skip


def published(**changes: Any) -> dict[str, Any]:
    return tiny_config().to_json() | changes


@pytest.mark.parametrize("model_type", CLASSES)
def test_every_key_of_transformers_is_classified(model_type: str) -> None:
    module = importlib.import_module(f"transformers.models.{model_type}.configuration_{model_type}")
    reference = getattr(module, CLASSES[model_type])
    keys = {*reference().to_dict(), *reference.attribute_map}
    assert len(keys) > 45
    assert [key for key in unknown_keys(dict.fromkeys(keys)) if "." not in key] == []


def test_every_published_key_is_classified() -> None:
    assert unknown_keys(dict.fromkeys(PUBLISHED)) == ()
    for name in RELEASED:
        assert unknown_keys(json.loads(released_config(name).read_text())) == ()
    assert unknown_keys(published()) == ()


def test_what_changes_nothing_changes_nothing() -> None:
    assert ModelConfig.from_json(published(**dict.fromkeys(WITHOUT_EFFECT, 7))) == tiny_config()
    neutral = {key: values[0] for key, values in ONLY_NEUTRAL.items() if values}
    assert ModelConfig.from_json(published(**neutral)) == tiny_config()


@pytest.mark.parametrize("key", ONLY_NEUTRAL)
def test_what_changes_the_arithmetic_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key} 0.37 is not supported for deepseek_v3"):
        ModelConfig.from_json(published(**{key: 0.37}))


def test_unknown_keys_are_named_with_those_of_the_rotary_settings() -> None:
    found = unknown_keys(published(new_trick=1, rope_scaling=YARN | {"spin": 2}))
    assert found == ("new_trick", "rope_scaling.spin")


@pytest.mark.parametrize(
    ("changes", "first", "second"),
    [
        ({"rope_parameters": DEFAULT, "rope_scaling": YARN}, "rope_parameters {'rope_type': 'default'", "rope_scaling"),
        ({"rope_parameters": YARN | {"factor": 8}, "rope_scaling": YARN}, "rope_parameters", "rope_scaling"),
        ({"rope_theta": 5000.0, "rope_parameters": DEFAULT}, "rope_theta 5000.0", "rope_parameters.rope_theta 10000.0"),
        ({"rope_scaling": YARN | {"rope_type": "default"}}, "rope_type 'default'", "type 'yarn'"),
        (
            {"rope_scaling": YARN, "original_max_position_embeddings": 32},
            "original_max_position_embeddings 32", "rope_scaling.original_max_position_embeddings 64",
        ),
        ({"torch_dtype": "float32", "dtype": "bfloat16"}, "torch_dtype 'float32'", "dtype 'bfloat16'"),
        ({"num_local_experts": 99}, "n_routed_experts 16", "num_local_experts 99"),
        (
            {"mlp_layer_types": ["dense"] * 2 + ["sparse"] * 3},
            "first_k_dense_replace 1", "mlp_layer_types with 2 dense layers",
        ),
        ({"mlp_layer_types": ["dense"]}, "num_hidden_layers 5", "mlp_layer_types of 1 layers"),
        ({"text_config": {"hidden_size": 4096}}, "hidden_size 48", "text_config.hidden_size 4096"),
        ({"text_config": {"attention_multiplier": 2}}, "attention_multiplier not stated", "text_config.attention_m"),
    ],
)  # fmt: skip
def test_two_keys_that_contradict_each_other_are_refused_by_both_names(
    changes: dict[str, Any], first: str, second: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        ModelConfig.from_json(published(**changes))
    assert f"{first}" in str(refusal.value)
    assert f" and {second}" in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": DEFAULT, "rope_scaling": None},
        {"rope_parameters": None, "rope_scaling": None},
        {"rope_parameters": DEFAULT, "rope_scaling": {"type": "default"}},
        {"torch_dtype": "bfloat16", "dtype": "torch.bfloat16"},
        {"num_local_experts": 16, "num_experts": 16},
        {"mlp_layer_types": ["dense"] + ["sparse"] * 4},
        {"text_config": {"hidden_size": 48, "transformers_version": "5.23.0"}},
    ],
)
def test_equal_duplicates_are_fine(changes: dict[str, Any]) -> None:
    assert ModelConfig.from_json(published(**changes)) == tiny_config()


def test_yarn_is_read_where_both_spellings_agree() -> None:
    both = published(rope_theta=None, rope_parameters=YARN | {"rope_theta": 10000.0}, rope_scaling=YARN)
    both = {key: value for key, value in both.items() if value is not None}
    yarn = ModelConfig.from_json(both).yarn
    assert yarn is not None
    assert yarn.factor == 40
    outside = {key: value for key, value in YARN.items() if not key.startswith("original")}
    stated = ModelConfig.from_json(published(rope_scaling=outside, original_max_position_embeddings=64))
    assert stated.yarn == yarn


@pytest.mark.parametrize("other", ALIASES)
def test_another_spelling_stands_for_the_key(other: str) -> None:
    values = published(torch_dtype="float32")
    values[other] = values.pop(ALIASES[other])
    assert ModelConfig.from_json(values) == tiny_config()


def test_dense_layers_are_counted_where_only_the_list_is_stated() -> None:
    values = published(mlp_layer_types=["dense"] * 2 + ["sparse"] * 3)
    del values["first_k_dense_replace"]
    assert ModelConfig.from_json(values).num_dense_layers == 2


def test_a_wrapper_is_named_with_what_to_do() -> None:
    wrapped = {"model_type": "kimi_k25", "text_config": published(model_type="kimi_k2")}
    with pytest.raises(ConfigError, match="'kimi_k25' wraps the language model 'kimi_k2' in text_config; save"):
        ModelConfig.from_json(wrapped)


def test_the_indexer_of_each_family_rotates_its_own_way() -> None:
    sizes = {"index_n_heads": 2, "index_head_dim": 16, "index_topk": 4, "q_lora_rank": 24}
    for model_type, value in (("deepseek_v32", False), ("glm_moe_dsa", True)):
        values = published(model_type=model_type, indexer_rope_interleave=value, **sizes)
        assert ModelConfig.from_json(values).index_interleaved is value
        with pytest.raises(ConfigError, match=f"indexer_rope_interleave {not value} is not supported"):
            ModelConfig.from_json(values | {"indexer_rope_interleave": not value})


def test_keys_that_other_programs_follow_are_named() -> None:
    assert unused_keys(published()) == ()
    (line,) = unused_keys(published(index_topk=8))
    assert line == "index_topk 8 has no effect: deepseek_v3 has no indexer"
    (line,) = unused_keys(published(architectures=["DeepseekV32ForCausalLM"]))
    assert line == "architectures says DeepseekV32ForCausalLM, model_type deepseek_v3; model_type decides here"
    assert unused_keys(published(eos_token_id=[1, 5])) == ("only the first of eos_token_id [1, 5] ends a text here",)
    assert unused_keys(published(model_type="kimi_k2", architectures=["DeepseekV3ForCausalLM"])) == ()
