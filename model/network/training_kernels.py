"""The two costly products of a block in the form that trains fastest on a CPU; the functions computed are the same.

*Experts*: the rows of each expert fill blocks of `BLOCK` rows, and one batched product runs over all blocks, each with
its expert's weights. The number of blocks depends on the number of tokens alone, so every step has the same shapes (CPU
libraries compile a kernel for each new shape) and an overloaded expert costs no more than it takes. Rows move by
gathering only, forwards and backwards, because every token knows its rows and every row its token.

*Attention*: plain products with an fp32 softmax; on a CPU their backward pass takes half the time of the fused
kernel's, at the price of holding the weights.

Shape suffixes: T tokens (batch and positions flattened), D model width, E experts, K selected experts, I expert
width, B blocks, R rows per block, N rows (T * K), M slots (B * R), S positions of one sequence, H sequences and heads,
Q and V head widths.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.layers import swiglu

BLOCK = 128


class Layout(NamedTuple):
    """Where every row is computed."""

    expert_B: Tensor  # whose weights a block takes
    token_M: Tensor  # the token in a slot; T where the slot is empty
    slot_TK: Tensor  # the slot of each token's k-th expert


def lay_out(expert_ids_TK: Tensor, num_experts: int, block: int = BLOCK) -> Layout:
    """Give every expert as many whole blocks as its rows need, side by side."""
    num_tokens, top_k = expert_ids_TK.shape
    ids_N = expert_ids_TK.flatten()
    num_blocks = ids_N.numel() // block + num_experts  # no distribution over the experts needs more
    counts_E = torch.bincount(ids_N, minlength=num_experts)
    ends_E = ((counts_E + block - 1) // block).cumsum(0)
    order_N = ids_N.argsort(stable=True)
    first_slot_E = F.pad(ends_E, (1, -1)) * block
    first_row_E = counts_E.cumsum(0) - counts_E
    rows_N = torch.arange(ids_N.numel(), device=ids_N.device)
    slot_N = rows_N + (first_slot_E - first_row_E)[ids_N[order_N]]
    slot_TK = torch.empty_like(ids_N).scatter_(0, order_N, slot_N).view_as(expert_ids_TK)
    token_M = ids_N.new_full((num_blocks * block,), num_tokens).scatter_(0, slot_N, order_N // top_k)
    blocks_B = torch.arange(num_blocks, device=ids_N.device)
    expert_B = torch.searchsorted(ends_E, blocks_B, right=True).clamp(max=num_experts - 1)
    return Layout(expert_B, token_M, slot_TK)


class _Scatter(torch.autograd.Function):
    """Tokens to slots; a token's gradient is the sum over its slots."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, token_M: Tensor, slot_TK: Tensor) -> Tensor:
        ctx.save_for_backward(slot_TK)
        return F.pad(x_TD, (0, 0, 0, 1)).index_select(0, token_M)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slot_TK,) = ctx.saved_tensors
        return grads[0].index_select(0, slot_TK.flatten()).unflatten(0, slot_TK.shape).sum(1), None, None


class _Combine(torch.autograd.Function):
    """Slots to tokens: the weighted sum over a token's slots."""

    @staticmethod
    def forward(ctx: Any, y_MD: Tensor, weights_TK: Tensor, token_M: Tensor, slot_TK: Tensor) -> Tensor:
        picked_TKD = y_MD.index_select(0, slot_TK.flatten()).unflatten(0, slot_TK.shape)
        ctx.save_for_backward(picked_TKD, weights_TK, token_M, slot_TK)
        return torch.bmm(weights_TK.to(y_MD.dtype).unsqueeze(1), picked_TKD).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        picked_TKD, weights_TK, token_M, slot_TK = ctx.saved_tensors
        grad_TD = grads[0]
        weights_grad_TK = torch.bmm(picked_TKD, grad_TD.unsqueeze(2)).squeeze(2).to(weights_TK.dtype)
        weight_M = weights_TK.new_zeros(len(token_M)).index_copy(0, slot_TK.flatten(), weights_TK.flatten())
        rows_MD = F.pad(grad_TD, (0, 0, 0, 1)).index_select(0, token_M)
        return rows_MD * weight_M[:, None].to(rows_MD.dtype), weights_grad_TK, None, None


class _Take(torch.autograd.Function):
    """Each block's expert weights; the gradient sums an expert's blocks by a product with their membership."""

    @staticmethod
    def forward(ctx: Any, weight_EXY: Tensor, expert_B: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(expert_B)
        ctx.like = weight_EXY.shape, weight_EXY.dtype
        return weight_EXY.to(dtype).index_select(0, expert_B)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (expert_B,) = ctx.saved_tensors
        shape, dtype = ctx.like
        members_EB = F.one_hot(expert_B, shape[0]).T.to(grads[0].dtype)
        return (members_EB @ grads[0].flatten(1)).to(dtype).view(shape), None, None


def blocked_experts(x_TD: Tensor, gate_up: Tensor, down: Tensor, expert_ids_TK: Tensor, weights_TK: Tensor) -> Tensor:
    """Weighted sum of each token's experts, [T, D], in the dtype of autocast where that is on.

    Args:
        x_TD: the layer's input.
        gate_up: [E, 2I, D], gate rows first.
        down: [E, D, I].
        expert_ids_TK: each token's experts.
        weights_TK: what they count.
    """
    device = x_TD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_TD.dtype
    expert_B, token_M, slot_TK = lay_out(expert_ids_TK, len(gate_up))
    x_BRD = _Scatter.apply(x_TD.to(dtype), token_M, slot_TK).unflatten(0, (len(expert_B), -1))
    inner_BRI = swiglu(torch.bmm(x_BRD, _Take.apply(gate_up, expert_B, dtype).mT))
    y_MD = torch.bmm(inner_BRI, _Take.apply(down, expert_B, dtype).mT).flatten(0, 1)
    combined_TD: Tensor = _Combine.apply(y_MD, weights_TK, token_M, slot_TK)
    return combined_TD


def plain_attention(query_HSQ: Tensor, key_HSQ: Tensor, value_HSV: Tensor, scale: float) -> Tensor:
    """Causal attention over whole sequences; leading axes are arbitrary, the softmax is fp32."""
    length = query_HSQ.shape[-2]
    ahead_SS = torch.full((length, length), -math.inf, device=query_HSQ.device).triu(1)
    weights_HSS = ((query_HSQ * scale) @ key_HSQ.mT).float().add(ahead_SS).softmax(-1)
    return weights_HSS.to(value_HSV.dtype) @ value_HSV
