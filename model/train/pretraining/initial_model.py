"""The model before the first step: random weights, or a base model, whose context may be extended.

An extension lowers the rotary frequencies of all but the fast pairs of channels (YaRN), and raises the scale of
attention. It changes no weight; training on long windows adapts the weights.

Source: YaRN (arXiv 2309.00071); DeepSeek-V3 report (arXiv 2412.19437), section 4.3.
"""

import dataclasses

import torch

from model.checkpoint.embedded import find_model
from model.checkpoint.weights import load_model
from model.network.config import ModelConfig
from model.network.moe import Router
from model.network.rope import Yarn
from model.network.transformer import Transformer
from model.train.config import ContinueConfig, ExtendConfig, TrainConfigError


def initial_model(start: ModelConfig | ContinueConfig | ExtendConfig, seed: int = 0) -> Transformer:
    """Return the model of a run before its first step, in fp32 on the CPU.

    The selection biases of a base model are centred, which changes no selection.

    Raises:
        CheckpointError: the base model cannot be loaded.
        TrainConfigError: the context of the base model cannot be extended by this factor.
    """
    if isinstance(start, ModelConfig):
        model = Transformer(start)
        model.initialise(torch.Generator().manual_seed(seed))
        return model
    base = load_model(find_model(start.start), "cpu", torch.float32)
    model = Transformer(extended(base.config, start) if isinstance(start, ExtendConfig) else base.config)
    model.load_state_dict(base.state_dict())
    for module in model.modules():
        if isinstance(module, Router):
            module.expert_bias -= module.expert_bias.mean()
    return model


def extended(shape: ModelConfig, extend: ExtendConfig) -> ModelConfig:
    """Return the configuration with a longer context, `factor` times the context before any extension.

    Raises:
        TrainConfigError: the new context is no whole number of positions, or is not longer than the present context.
    """
    original = shape.yarn.original_max_positions if shape.yarn else shape.max_positions
    positions = original * extend.factor
    if positions != int(positions):
        raise TrainConfigError(f"factor {extend.factor} times {original} positions is no whole number")
    if positions <= shape.max_positions:
        raise TrainConfigError(
            f"factor {extend.factor} is too small: the model already reads {shape.max_positions} positions"
        )
    yarn = Yarn(
        factor=float(extend.factor),
        original_max_positions=original,
        beta_fast=float(extend.beta_fast),
        beta_slow=float(extend.beta_slow),
        mscale=float(extend.mscale),
        mscale_all_dim=float(extend.mscale_all_dim),
    )
    return dataclasses.replace(shape, yarn=yarn, max_positions=int(positions))
