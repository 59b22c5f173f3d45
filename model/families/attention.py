"""Attention weights, recorded beside the kernel that a model uses anyway.

The functions that transformers registers as "sdpa" and "eager" are replaced by ones that call them and then record.
The names stay: models with sparse attention compare the name, and leave out their mask under any other.

Shape suffixes: B batch (1), H query heads, G key heads, Q queries, S keys, V width of a value.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


class Attended(NamedTuple):
    """The attention of one module in one forward pass.

    `weights_HQS` are the weights as applied to the values, in fp32. `error` is the largest part of the module's output
    that weights times values do not give, relative to the largest output.
    """

    weights_HQS: Tensor
    error: Tensor


Receiver = Callable[[nn.Module], Callable[[Attended], None] | None]


def watch_attention(receiver: Receiver) -> None:
    """Replace the attention functions of transformers, once per process.

    Args:
        receiver: called with each attention module; returns the function that takes its `Attended`, or None.
    """
    for name in ("sdpa", "eager"):
        kernel = ALL_ATTENTION_FUNCTIONS.get(name)  # None for "eager", which each model's own file defines
        if not (isinstance(kernel, partial) and kernel.func is _attend):
            ALL_ATTENTION_FUNCTIONS.register(name, partial(_attend, kernel, receiver))


def _attend(
    kernel: Callable | None,
    receiver: Receiver,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Call the kernel, and pass the weights on if the receiver wants those of this module."""
    forward = kernel or sys.modules[type(module).__module__].eager_attention_forward
    output_BQHV, weights_BHQS = forward(module, query, key, value, attention_mask, **kwargs)
    receive = receiver(module)
    if receive is not None:
        applied_BHQS = weights_BHQS
        if applied_BHQS is None:
            applied_BHQS = attention_weights(module, query, key, attention_mask, **kwargs)
        receive(as_applied(applied_BHQS[0], value[0], output_BQHV[0].transpose(0, 1)))
    return output_BQHV, weights_BHQS


def attention_weights(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, **kwargs: Any) -> Tensor:
    """Return softmax(query . key * scale + mask) in fp32, [B, H, Q, S]: what the fused kernel does not return."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scale = kwargs.get("scaling")
    scores_BHQS = query.float() @ key.float().mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if kwargs.get("position_bias") is not None:
        scores_BHQS = scores_BHQS + kwargs["position_bias"]
    if mask is not None:
        scores_BHQS = scores_BHQS.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores_BHQS + mask
    elif query.shape[2] > 1 and _is_causal(module, kwargs.get("is_causal")):
        num_cached = key.shape[2] - query.shape[2]  # the queries are the last tokens
        later_QS = torch.ones(scores_BHQS.shape[-2:], dtype=torch.bool, device=query.device).triu(1 + num_cached)
        scores_BHQS = scores_BHQS.masked_fill(later_QS, -torch.inf)
    return scores_BHQS.softmax(-1).nan_to_num()  # a row without any key is all zero


def _is_causal(module: nn.Module, argument: bool | None) -> bool:
    return getattr(module, "is_causal", True) if argument is None else argument


def as_applied(weights_HQS: Tensor, value_GSV: Tensor, output_HQV: Tensor) -> Attended:
    """Return the weights that give the output, and the error that remains.

    A model with sinks may return weights that sum to 1, and multiply the output by the share that its sink leaves.
    The share is measured per head and query, and used only where the weights alone do not give the output.
    """
    value_HSV = value_GSV.repeat_interleave(len(weights_HQS) // len(value_GSV), dim=0).float()
    weights_HQS, output_HQV = weights_HQS.float(), output_HQV.float()
    plain_HQV = weights_HQS @ value_HSV
    size = output_HQV.abs().max()
    plain_error = (plain_HQV - output_HQV).abs().max()
    share_HQ1 = (plain_HQV * output_HQV).sum(-1, keepdim=True) / plain_HQV.square().sum(-1, keepdim=True)
    share_HQ1 = share_HQ1.nan_to_num()
    scaled_error = (plain_HQV * share_HQ1 - output_HQV).abs().max()
    tolerance = max(1e-4, 2 * torch.finfo(value_GSV.dtype).eps)
    is_scaled = plain_error > tolerance * size  # a tensor: no copy to the host here
    weights_HQS = torch.where(is_scaled, weights_HQS * share_HQ1, weights_HQS)
    return Attended(weights_HQS, torch.where(is_scaled, scaled_error, plain_error) / size.clamp(min=1e-30))
