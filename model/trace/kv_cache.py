"""Bytes of the key-value cache with the model's kind of attention, and with other kinds for comparison.

The bytes are computed from a published configuration. The other kinds have the model's layers, heads and head sizes.

    >>> v3 = {"num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
    ...       "qk_nope_head_dim": 128, "v_head_dim": 128}
    >>> cache_bytes(v3)["MLA"], cache_bytes(v3)["MHA"]
    (70272, 3997696)

Source: DeepSeek-V2 report (arXiv 2405.04434), section 2.1 and table 1.
"""

from collections.abc import Mapping
from typing import Any

OWN = "MLA"
GROUPED_HEADS = 8  # number of key-value heads in grouped-query attention, as in Llama 3
BYTES_PER_VALUE = 2  # bfloat16


def cache_bytes(
    config: Mapping[str, Any], num_tokens: int = 1, bytes_per_value: int = BYTES_PER_VALUE
) -> dict[str, int]:
    """Return the bytes of the cache of `num_tokens` tokens over all layers, by kind of attention.

    For each token and layer, latent attention (MLA) keeps one latent vector and one position key, and an index key in
    layers with an indexer. "MLA expanded" keeps the whole keys and values of every head. The other kinds keep a key
    and a value for each of all heads (MHA), for each of 8 heads (GQA-8) or for one head (MQA). Their keys have only the
    width of the content part, `qk_nope_head_dim`.

    Raises:
        KeyError: the configuration lacks a size.
    """
    heads, pair = config["num_attention_heads"], config["qk_nope_head_dim"] + config["v_head_dim"]
    layers = config["num_hidden_layers"]
    latents = layers * (config["kv_lora_rank"] + config["qk_rope_head_dim"])
    values = {
        OWN: latents + _index_values(config),
        "MLA expanded": layers * heads * (pair + config["qk_rope_head_dim"]),
        "MHA": layers * heads * pair,
        f"GQA-{GROUPED_HEADS}": layers * min(GROUPED_HEADS, heads) * pair,
        "MQA": layers * pair,
    }
    return {name: number * num_tokens * bytes_per_value for name, number in values.items()}


def _index_values(config: Mapping[str, Any]) -> int:
    """Return the number of values in one token's index keys, over all layers; 0 without an indexer."""
    kinds = config.get("indexer_types") or ["full"] * config["num_hidden_layers"]
    return sum(kind == "full" for kind in kinds) * config.get("index_head_dim", 0)
