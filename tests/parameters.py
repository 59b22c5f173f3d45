"""Count parameters tensor by tensor, as an independent reference for the project's own count."""

from model.checkpoint.names import slots
from model.network.config import ModelConfig


def count_parameters(config: ModelConfig) -> tuple[int, int]:
    """Return the number of all parameters, and of those that one token passes through.

    A token passes all parameters but those of the routed experts that it does not select. Embedding and output head are
    counted, a shared matrix once; so is the selection bias.
    """
    total = sum(slot.num_elements for slot in slots(config))
    idle_experts = len(config.moe_layers) * (config.num_experts - config.top_k)
    return total, total - idle_experts * 3 * config.hidden_size * config.expert_width
