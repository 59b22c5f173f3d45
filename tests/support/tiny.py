"""The released V3 configuration, and random models of the same structure that are a few kilobytes large."""

from typing import Any

import torch

from model.network.config import ModelConfig
from model.network.transformer import Transformer

RELEASED_V3: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_nextn_predict_layers": 1,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "n_group": 8,
    "topk_group": 4,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000,
    "rope_scaling": {
        "type": "yarn",
        "factor": 40,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    },
    "max_position_embeddings": 163840,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "torch_dtype": "bfloat16",
}


def tiny_config(**changes: Any) -> ModelConfig:
    """Three layers, the first dense, eight experts in two groups; changes are in published names."""
    sizes = {"vocab_size": 31, "hidden_size": 12, "intermediate_size": 20, "moe_intermediate_size": 6}
    layers = {"num_hidden_layers": 3, "first_k_dense_replace": 1, "n_routed_experts": 8, "num_experts_per_tok": 2}
    groups = {"n_group": 2, "topk_group": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    ranks = {"q_lora_rank": 5, "kv_lora_rank": 4, "qk_nope_head_dim": 3, "qk_rope_head_dim": 2, "v_head_dim": 3}
    return ModelConfig.from_json(
        RELEASED_V3 | {"rope_scaling": None, "max_position_embeddings": 64} | sizes | layers | groups | ranks | changes
    )


def tiny_model(**changes: Any) -> Transformer:
    """A model of that configuration with every parameter and buffer random."""
    model = Transformer(tiny_config(**changes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.normal_(0, 0.5, generator=generator)
    return model
