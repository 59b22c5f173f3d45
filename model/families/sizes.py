"""Sizes that a configuration, or a module of a model, states under one of several names."""

from typing import Any

TOP_K = (
    *("num_experts_per_tok", "num_experts_per_token", "top_k", "top_k_experts"),
    *("moe_top_k", "moe_topk", "moe_k"),
)
WINDOW = ("sliding_window", "sliding_window_size", "attention_chunk_size")  # of Inkling, of Llama 4
CONTEXT = ("max_position_embeddings", "max_seq_len", "n_positions", "model_max_length")


def whole(holder: Any, *names: str) -> int | None:
    """Return the first of the named attributes that is a whole number above 0; None if there is none.

    >>> from types import SimpleNamespace
    >>> whole(SimpleNamespace(sliding_window=None, sliding_window_size=8), *WINDOW)
    8
    """
    values = (getattr(holder, name, None) for name in names)
    return next((value for value in values if type(value) is int and value > 0), None)
