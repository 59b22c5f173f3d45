"""Parameters counted slot by slot, which what the code counts otherwise is held against."""

from model.checkpoint.names import slots
from model.network.config import ModelConfig


def count_parameters(config: ModelConfig) -> tuple[int, int]:
    """Parameters in total, and those one token passes through (all but the routed experts it is not sent to).

    Embedding and output head are counted, a shared one once; so is the selection bias.
    """
    total = sum(slot.num_elements for slot in slots(config))
    idle_experts = len(config.moe_layers) * (config.num_experts - config.top_k)
    return total, total - idle_experts * 3 * config.hidden_size * config.expert_width
