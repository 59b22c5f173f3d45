"""Tiny random models for tests: every weight and buffer is drawn, so that nothing is accidentally zero or one."""

import torch

from model.network.config import ModelConfig
from model.network.moe import Router
from model.network.transformer import Transformer


def tiny_config(**changes: object) -> ModelConfig:
    """Five layers, the first dense; 16 experts in 4 groups of which 2 are kept, 4 per token."""
    sizes: dict[str, object] = dict(
        vocab_size=320,
        hidden_size=48,
        num_layers=5,
        num_dense_layers=1,
        num_heads=4,
        q_lora_rank=24,
        kv_lora_rank=16,
        nope_head_dim=12,
        rope_head_dim=8,
        value_head_dim=10,
        dense_width=64,
        expert_width=24,
        num_experts=16,
        num_shared_experts=1,
        top_k=4,
        num_groups=4,
        num_kept_groups=2,
        normalise_weights=True,
        routed_scale=2.5,
        max_positions=256,
    )
    return ModelConfig(**(sizes | changes))  # type: ignore[arg-type]


def random_model(config: ModelConfig, seed: int = 0) -> Transformer:
    """A model in evaluation mode whose parameters and buffers are all random; logits reach about 6."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                fan_in = parameter.shape[-1]
                parameter.normal_(0, 1.0 if name.startswith("embedding") else fan_in**-0.5, generator=generator)
        for module in model.modules():
            if isinstance(module, Router):
                module.expert_bias.uniform_(-0.3, 0.3, generator=generator)
    return model.eval()


def with_noise(config: ModelConfig, seed: int) -> Transformer:
    """Return the random model with every router drawn anew."""
    model, generator = random_model(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Router):
                module.weight.normal_(0, config.hidden_size**-0.5, generator=generator)
    return model
