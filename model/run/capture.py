"""Checks before a run: the model has the layers that the request records, and the recording fits in memory."""

from model.checkpoint.memory import memory_bytes
from model.network.config import ModelConfig
from model.run.interventions import Replay
from model.run.request import Capture, RequestError, RunRequest


def capture_bytes(config: ModelConfig, capture: Capture, num_tokens: int) -> int:
    """Return the bytes of the large captured variables in a trace of `num_tokens` tokens."""
    layers = config.num_layers if capture.layers is None else len(capture.layers)
    heads = config.num_heads if capture.heads is None else len(capture.heads)
    sizes = {
        "attention": layers * heads * num_tokens**2,
        "indexer": layers * num_tokens**2 * 5 // 4 if config.is_sparse else 0,
        "inputs": num_tokens * config.num_layers * config.hidden_size,
        "logits": num_tokens * config.vocab_size,
        "drafts": num_tokens * config.hidden_size,
        "router": num_tokens * len(config.moe_layers) * (config.num_experts + config.num_groups),
    }
    return 4 * sum(sizes.get(name, 0) for name in capture.variables)


def check_capture(config: ModelConfig, request: RunRequest, num_prompt: int) -> None:
    """Check that the model has the layers and heads that the request captures, and that the recording fits in memory.

    Raises:
        RequestError: the model lacks a layer or a head, drafts would be verified in a replay, or the recording is
            too large.
    """
    capture = request.capture
    if request.verify_drafts and any(isinstance(change, Replay) for change in request.interventions):
        # A rejected draft token is routed too, and no trace holds its gate weights.
        raise RequestError("a run whose routing is replayed cannot verify drafts; do not ask for it")
    for kind, numbers, count in (
        ("layer", capture.layers, config.num_layers),
        ("head", capture.heads, config.num_heads),
    ):
        outside = [n for n in numbers or () if not 0 <= n < count]
        if outside:
            raise RequestError(f"{kind} {outside[0]} does not exist; the model has {kind}s 0 to {count - 1}")
    check_memory(capture_bytes(config, capture, num_prompt + request.max_new_tokens), capture)


def check_memory(num_bytes: int, capture: Capture) -> None:
    """Check that a recording of `num_bytes` fits in memory.

    Raises:
        RequestError: it does not.
    """
    memory = memory_bytes()
    if memory is not None and num_bytes > memory // 4:  # steps and their joined copy are in memory together
        raise RequestError(
            f"recording {', '.join(sorted(capture.variables))} would take {num_bytes / 1e9:.1f} GB, more than fits "
            "here; choose fewer layers and heads, or a shorter prompt"
        )
