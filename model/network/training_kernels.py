"""The experts of a layer in the form that trains fastest on a CPU; it computes the same function as moe.py.

The rows of each expert are contiguous and padded to a multiple of `BLOCK`. Padding keeps the number of distinct shapes
small, because CPU libraries compile a kernel for each new shape. Each weight matrix of an expert takes one product in
the forward pass and two in the backward pass, and each product is written to its place in the result. Both passes move
rows by gathering only, because the layout keeps both indices: the slots of each token, and the token in each slot.

Shape suffixes: T tokens (batch and positions flattened), D model width, E experts, K selected experts, I expert
width, N rows (T * K), M slots (rows with padding), X and Y input and output width of a product.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.layers import swiglu

BLOCK = 32


class Layout(NamedTuple):
    """The assignment of rows to slots; each expert computes a contiguous range of slots."""

    sizes: list[int]  # slots of each expert, in the order of experts
    token_M: Tensor  # the token in a slot; T where the slot is empty
    slot_TK: Tensor  # the slot of each token's k-th expert


def lay_out(expert_ids_TK: Tensor, num_experts: int, block: int = BLOCK) -> Layout:
    """Return a layout in which each expert has the smallest number of whole blocks of slots that holds its rows."""
    num_tokens, top_k = expert_ids_TK.shape
    ids_N = expert_ids_TK.flatten()
    counts_E = torch.bincount(ids_N, minlength=num_experts)
    sizes_E = (counts_E + block - 1) // block * block
    order_N = ids_N.argsort(stable=True)
    shift_E = (sizes_E.cumsum(0) - sizes_E) - (counts_E.cumsum(0) - counts_E)
    slot_N = torch.arange(ids_N.numel(), device=ids_N.device) + shift_E[ids_N[order_N]]
    slot_TK = torch.empty_like(ids_N).scatter_(0, order_N, slot_N).view_as(expert_ids_TK)
    token_M = ids_N.new_full((int(sizes_E.sum()),), num_tokens).scatter_(0, slot_N, order_N // top_k)
    return Layout(sizes_E.tolist(), token_M, slot_TK)


class _Scatter(torch.autograd.Function):
    """Copies tokens to their slots; a token's gradient is the sum over its slots."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, token_M: Tensor, slot_TK: Tensor) -> Tensor:
        ctx.save_for_backward(slot_TK)
        return F.pad(x_TD, (0, 0, 0, 1)).index_select(0, token_M)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slot_TK,) = ctx.saved_tensors
        return grads[0].index_select(0, slot_TK.flatten()).unflatten(0, slot_TK.shape).sum(1), None, None


class _Combine(torch.autograd.Function):
    """Computes each token's weighted sum over its slots."""

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


class _Products(torch.autograd.Function):
    """Multiplies each expert's rows by its matrix, in the dtype of the rows."""

    @staticmethod
    def forward(ctx: Any, x_MX: Tensor, weight_EYX: Tensor, sizes: list[int]) -> Tensor:
        cast_EYX = weight_EYX.to(x_MX.dtype)
        y_MY = x_MX.new_empty(len(x_MX), weight_EYX.shape[1])
        parts = (x_MX.split_with_sizes(sizes), cast_EYX, y_MY.split_with_sizes(sizes))
        for rows, matrix_YX, out in zip(*parts, strict=True):
            torch.mm(rows, matrix_YX.T, out=out)
        ctx.save_for_backward(x_MX, cast_EYX)
        ctx.sizes, ctx.dtype = sizes, weight_EYX.dtype
        return y_MY

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x_MX, cast_EYX = ctx.saved_tensors
        x_grad_MX, weight_grad_EYX = torch.empty_like(x_MX), torch.empty_like(cast_EYX)
        by_row = (part.split_with_sizes(ctx.sizes) for part in (grads[0], x_MX, x_grad_MX))
        for grad, rows, out, matrix_YX, out_YX in zip(*by_row, cast_EYX, weight_grad_EYX, strict=True):
            torch.mm(grad, matrix_YX, out=out)
            torch.mm(grad.T, rows, out=out_YX)
        return x_grad_MX, weight_grad_EYX.to(ctx.dtype), None


def blocked_experts(x_TD: Tensor, gate_up: Tensor, down: Tensor, expert_ids_TK: Tensor, weights_TK: Tensor) -> Tensor:
    """Return for each token the weighted sum of its experts' outputs, [T, D], in autocast's dtype if autocast is on.

    Args:
        x_TD: the input of the MoE layer.
        gate_up: gate and up matrices of all experts, [E, 2I, D], gate rows first.
        down: down matrices of all experts, [E, D, I].
        expert_ids_TK: the selected experts of each token.
        weights_TK: the gate weights of the selected experts.
    """
    device = x_TD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_TD.dtype
    sizes, token_M, slot_TK = lay_out(expert_ids_TK, len(gate_up))
    x_MD = _Scatter.apply(x_TD.to(dtype), token_M, slot_TK)
    inner_MI = swiglu(_Products.apply(x_MD, gate_up, sizes))
    y_MD = _Products.apply(inner_MI, down, sizes)
    combined_TD: Tensor = _Combine.apply(y_MD, weights_TK, token_M, slot_TK)
    return combined_TD
