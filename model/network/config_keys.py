"""The treatment of every key of a published `config.json`: read, without effect here, or refused.

`config.py` reads the keys of its fields. This file lists all other keys in published configurations and in
transformers' configuration classes of this family. It refuses two keys that give one setting different values, because
implementations disagree about which key they read, and the wrong key gives wrong numbers without a warning.

Source: transformers 5.23, configuration classes of deepseek_v2, deepseek_v3, deepseek_v32, glm_moe_dsa and kimi_k25;
released configurations of DeepSeek, Kimi and GLM.
"""

from collections.abc import Mapping
from typing import Any

from model.network.rope import ConfigError, brief

# Alternative key -> the key that is read.
ALIASES = {
    "num_local_experts": "n_routed_experts",
    "num_experts": "n_routed_experts",
    "num_mtp_layers": "num_nextn_predict_layers",
    "dtype": "torch_dtype",
}

# Keys that change the model's function. Only these values and null are implemented.
ONLY: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "moe_layer_freq": (1,),
    "rope_interleave": (True,),
    "mlp_bias": (False,),
}
# Further keys of that kind, from other families and from remote code; `ModelConfig.to_json` does not write them.
ONLY_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "partial_rotary_factor": (1,),
    **dict.fromkeys(("sliding_window", "attention_chunk_size", "swiglu_limit", "compress_ratios"), ()),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping", "router_logit_softcapping"), ()),
    **dict.fromkeys(("attention_multiplier", "compression_config", "moe_router_activation_func"), ()),
    **dict.fromkeys(("logit_scale", "logits_scaling", "residual_multiplier", "embedding_multiplier"), (1,)),
    **dict.fromkeys(("scale_emb", "scale_depth", "hc_mult"), (1,)),
    **dict.fromkeys(
        ("use_sliding_window", "use_alibi", "add_cross_attention", "use_qk_norm", "qk_layernorm"), (False,)
    ),
    **dict.fromkeys(("is_causal", "use_mla", "use_grouped_topk"), (True,)),
    **dict.fromkeys(("num_hash_layers", "zero_expert_num"), (0,)),
    "pruned_heads": ({},),
}

# Key -> the file that reads it; these keys are not fields of the configuration.
READ_ELSEWHERE = {
    **dict.fromkeys(("rope_theta", "rope_scaling", "rope_parameters"), "rope.py"),
    "original_max_position_embeddings": "rope.py",
    **dict.fromkeys(("num_key_value_heads", "mlp_layer_types", "layer_types", "text_config"), "this file"),
    **dict.fromkeys(("architectures", "indexer_rope_interleave"), "this file"),
    **dict.fromkeys(("indexer_types", "index_topk_pattern", "index_topk_freq", "index_skip_topk_offset"), "config.py"),
    **dict.fromkeys(("num_nextn_predict_layers", "mtp_reads_normed"), "config.py"),
    "torch_dtype": "this file; the weights say how they are stored",
    "quantization_config": "fp8.py",
}

_LIBRARY = "bookkeeping of a library"
_TRAINING = "changes training, or how weights are initialised"
_FOLLOWS = "follows from other keys"
_ENGINE = "says how an engine spreads or caches the model"
_GENERATION = "a default of generation, which a request states here"
WITHOUT_EFFECT = {
    **dict.fromkeys(("transformers_version", "_name_or_path", "name_or_path", "auto_map", "torchscript"), _LIBRARY),
    **dict.fromkeys(("_commit_hash", "_attn_implementation", "attn_implementation", "tokenizer_class"), _LIBRARY),
    **dict.fromkeys(("_attn_implementation_autoset", "id2label", "label2id", "num_labels", "problem_type"), _LIBRARY),
    **dict.fromkeys(("is_encoder_decoder", "is_decoder", "chunk_size_feed_forward", "return_dict"), _LIBRARY),
    **dict.fromkeys(("output_attentions", "output_hidden_states", "output_router_logits", "use_bfloat16"), _LIBRARY),
    **dict.fromkeys(("finetuning_task", "task_specific_params", "prefix", "tf_legacy_loss"), _LIBRARY),
    **dict.fromkeys(("cross_attention_hidden_size", "tie_encoder_decoder", "decoder_start_token_id"), _LIBRARY),
    **dict.fromkeys(("pad_token_id", "sep_token_id", "cls_token_id"), "no run here is padded"),
    **dict.fromkeys(("unsloth_version", "unsloth_fixed", "use_return_dict", "return_dict_in_generate"), _LIBRARY),
    **dict.fromkeys(("initializer_range", "attention_dropout", "hidden_dropout", "aux_loss_alpha"), _TRAINING),
    **dict.fromkeys(("seq_aux", "router_aux_loss_coef", "gradient_checkpointing"), _TRAINING),
    **dict.fromkeys(("head_dim", "qk_head_dim"), _FOLLOWS),
    **dict.fromkeys(("ep_size", "pretraining_tp", "use_cache"), _ENGINE),
    **dict.fromkeys(
        ("temperature", "top_k", "top_p", "typical_p", "do_sample", "max_length", "min_length"), _GENERATION
    ),
    **dict.fromkeys(("num_beams", "num_beam_groups", "diversity_penalty", "length_penalty"), _GENERATION),
    **dict.fromkeys(("repetition_penalty", "encoder_no_repeat_ngram_size", "no_repeat_ngram_size"), _GENERATION),
    **dict.fromkeys(("bad_words_ids", "num_return_sequences", "output_scores", "early_stopping"), _GENERATION),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values"), _GENERATION),
    **dict.fromkeys(("exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens"), _GENERATION),
}

BESIDE_FIELDS = frozenset(ALIASES | ONLY | ONLY_NEUTRAL | READ_ELSEWHERE | WITHOUT_EFFECT)

_ROUTERS: dict[str, tuple[Any, ...]] = {"scoring_func": ("sigmoid",), "topk_method": ("noaux_tc",)}
# Implementations of V2 interpret norm_topk_prob differently; the released models do not set it.
_ROUTERS_V2: dict[str, tuple[Any, ...]] = {
    "scoring_func": ("softmax",),
    "topk_method": ("greedy", "group_limited_greedy"),
    "norm_topk_prob": (False,),
}
# In transformers these values name a kind of cache. All describe our attention: to all earlier tokens, or to selected.
_LAYER_TYPES = {"full_attention", "indexed_attention", "deepseek_sparse_attention"}


def merged(published: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with alternative keys renamed to the keys that `config.py` reads.

    Raises:
        ConfigError: two keys give one setting different values.
    """
    values = dict(published)
    for other, key in ALIASES.items():
        stated = published.get(other)
        if stated is None:
            continue
        if values.get(key) is not None and _plain(values[key]) != _plain(stated):
            raise contradiction({key: values[key], other: stated})
        values[key] = stated
    dense = _num_dense(published)
    if dense is not None:
        key, stated = "first_k_dense_replace", published.get("first_k_dense_replace")
        if stated is not None and stated != dense:
            raise contradiction({key: stated, "mlp_layer_types": f"with {dense} dense layers"})
        values[key] = dense
    return values


def contradiction(stated: Mapping[str, Any]) -> ConfigError:
    """Return the error about keys that give one setting different values."""
    pairs = " and ".join(f"{key} {brief(value)}" for key, value in stated.items())
    return ConfigError(f"{pairs} contradict each other; keep the right one")


def _plain(value: Any) -> Any:
    return value.removeprefix("torch.") if isinstance(value, str) else value


def _num_dense(published: Mapping[str, Any]) -> int | None:
    types, layers = published.get("mlp_layer_types"), published.get("num_hidden_layers")
    if types is None:
        return None
    if not isinstance(types, list) or types != ["dense"] * types.count("dense") + ["sparse"] * types.count("sparse"):
        raise ConfigError("mlp_layer_types with a dense layer after a sparse one is not supported")
    if len(types) != layers:
        raise contradiction({"num_hidden_layers": layers, "mlp_layer_types": f"of {len(types)} layers"})
    return types.count("dense")


def _check_text_config(values: Mapping[str, Any]) -> None:
    nested = values.get("text_config")
    if not isinstance(nested, Mapping):
        return
    for key, value in nested.items():
        if key not in WITHOUT_EFFECT and value is not None and values.get(key) != value:
            here = values.get(key, "not stated")
            raise contradiction({key: here, f"text_config.{key}": value})


def refuse_other_family(values: Mapping[str, Any], model_types: tuple[str, ...]) -> None:
    """Check that a configuration has one of the supported model types.

    Raises:
        ConfigError: the model type is not supported; the message names it, and says what to do if `text_config` has a
            supported type.
    """
    model_type, nested = values.get("model_type"), values.get("text_config")
    if model_type in model_types:
        return
    known = f"model_type {model_type!r} is not supported; supported: {', '.join(model_types)}"
    if isinstance(nested, Mapping) and nested.get("model_type") in model_types:
        known = f"model_type {model_type!r} wraps the language model {nested['model_type']!r} in text_config"
        known += "; save that object as config.json, and the weights without the prefix of their names"
    raise ConfigError(known)


def refuse_unsupported(values: Mapping[str, Any], model_types: tuple[str, ...]) -> None:
    """Check that no key has a value that would change the arithmetic and is not implemented.

    Raises:
        ConfigError: a value is not implemented, or a key in `text_config` contradicts the same key outside it; the
            message names the key.
    """
    refuse_other_family(values, model_types)
    model_type = values.get("model_type")
    _check_text_config(values)
    routers = _ROUTERS_V2 if model_type == "deepseek_v2" else _ROUTERS
    rotation: dict[str, tuple[Any, ...]] = {"indexer_rope_interleave": (model_type == "glm_moe_dsa",)}
    for key, implemented in (ONLY | ONLY_NEUTRAL | routers | rotation).items():
        if values.get(key) not in (None, *implemented):
            known = " or ".join(map(repr, implemented)) or "none"
            raise ConfigError(f"{key} {brief(values[key])} is not supported for {model_type}; only {known} is")
    types = values.get("layer_types")
    if types is not None and not (isinstance(types, list) and all(kind in _LAYER_TYPES for kind in map(str, types))):
        raise ConfigError(f"layer_types {brief(types)} is not supported; only {' or '.join(sorted(_LAYER_TYPES))} is")
    heads, kv_heads = values.get("num_attention_heads"), values.get("num_key_value_heads")
    if kv_heads not in (None, heads):
        raise ConfigError(
            f"num_key_value_heads {kv_heads} differs from num_attention_heads {heads}; MLA has one latent"
        )
