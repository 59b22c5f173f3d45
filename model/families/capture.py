"""Checks before a run of a transformers model: its layers have the attention to record, and memory suffices."""

from model.families.probed import Probed
from model.run.capture import check_memory
from model.run.request import Capture, RequestError, RunRequest


def capture_bytes(probed: Probed, capture: Capture, num_tokens: int) -> int:
    """Return the bytes of the large variables of `num_tokens` tokens.

    A pass holds all logits, and all heads of a layer: `capture` limits the heads only after it.
    """
    shape = probed.layout
    layers = len(probed.attention) if capture.layers is None else len(capture.layers)
    sizes = {
        "attention": layers * shape.num_heads * num_tokens**2,
        "inputs": num_tokens * shape.num_layers * (probed.shape.width or 0),
        "router": num_tokens * len(shape.moe_layers) * 2 * shape.num_experts,
    }
    return 4 * (num_tokens * shape.vocab_size + sum(sizes.get(name, 0) for name in capture.variables))


def check_capture(probed: Probed, request: RunRequest, num_prompt: int) -> None:
    """Check that the layers and heads of a request can be recorded, and that the recording fits in memory.

    Raises:
        RequestError: a layer has no attention to record, a head does not exist, or the recording is too large.
    """
    capture = request.capture
    if "attention" in capture.variables:
        for layer in capture.layers or ():
            if layer not in probed.attention:
                recordable = ", ".join(map(str, sorted(probed.attention)))
                raise RequestError(f"layer {layer} has no attention weights to record; layers that have: {recordable}")
        for head in capture.heads or ():
            if not 0 <= head < probed.layout.num_heads:
                raise RequestError(
                    f"head {head} does not exist; the model has heads 0 to {probed.layout.num_heads - 1}"
                )
    check_memory(capture_bytes(probed, capture, num_prompt + request.max_new_tokens), capture)
