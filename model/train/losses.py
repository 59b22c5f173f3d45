"""Losses, and the update of the selection bias.

The bias update balances the experts without a loss: after each step it lowers the bias of overloaded experts by a fixed
amount and raises the bias of underloaded experts. The sequence-wise balance loss prevents extreme loads within one
sequence.

Shape suffixes: B sequences, T positions, E experts, D model width, V vocabulary, N rows of a chunk.

Source: DeepSeek-V3 report (arXiv 2412.19437), equations 16 to 20; auxiliary-loss-free balancing (arXiv 2408.15664).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1024


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of a linear head, with the logits of at most `CHUNK` rows in memory.

    The forward pass computes the gradients chunk by chunk; the backward pass only scales them. Without chunks, the
    logits of all rows, with their fp32 copy, log-softmax and gradient, would take most of a step's memory.
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, dtype: torch.dtype) -> Tensor:
        hidden_grad_ND = torch.empty_like(hidden_ND)
        weight_grad_VD = torch.zeros_like(weight_VD)
        cast_VD = weight_VD.to(dtype)
        loss = hidden_ND.new_zeros(())
        chunks = (hidden_ND.split(CHUNK), target_N.split(CHUNK), hidden_grad_ND.split(CHUNK))
        for rows_ND, goal_N, grad_ND in zip(*chunks, strict=True):
            cast_ND = rows_ND.to(dtype)
            logits_NV = F.linear(cast_ND, cast_VD).float()
            normaliser_N = logits_NV.logsumexp(-1)
            loss += (normaliser_N - logits_NV.gather(-1, goal_N[:, None])[:, 0]).sum()
            error_NV = logits_NV.sub_(normaliser_N[:, None]).exp_()
            error_NV[torch.arange(len(goal_N), device=goal_N.device), goal_N] -= 1
            error_NV = error_NV.to(dtype)
            grad_ND.copy_(error_NV @ cast_VD)
            weight_grad_VD += error_NV.T @ cast_ND
        ctx.save_for_backward(hidden_grad_ND / len(target_N), weight_grad_VD / len(target_N))
        return loss / len(target_N)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_grad_ND, weight_grad_VD = ctx.saved_tensors
        return hidden_grad_ND * grads[0], weight_grad_VD * grads[0], None, None


def cross_entropy(hidden_BTD: Tensor, weight_VD: Tensor, target_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mean next-token loss in nats, an fp32 scalar.

    Args:
        hidden_BTD: states after the final norm, fp32.
        weight_VD: the output head, fp32.
        target_BT: int64 ids.
        dtype: dtype of the products with the head; the softmax is always fp32.
    """
    assert hidden_BTD.dtype == weight_VD.dtype == torch.float32, "the loss is added up in the states' dtype"
    with torch.autocast(hidden_BTD.device.type, enabled=False):
        loss: Tensor = _ChunkedCrossEntropy.apply(hidden_BTD.flatten(0, 1), weight_VD, target_BT.flatten(), dtype)
    return loss


def sequence_balance_loss(scores_BTE: Tensor, top_k: int) -> Tensor:
    """Return the sequence-wise balance loss, a mean over sequences.

    For each sequence: sum over experts of (load ratio) x (mean normalised affinity). The loss is 1 when both factors
    are uniform. Loads are counted from the top-k affinities, without bias and group limit, and carry no gradient.

    Args:
        scores_BTE: sigmoid affinities, fp32.
        top_k: selected experts per token.
    """
    num_positions, num_experts = scores_BTE.shape[1:]
    expert_ids_BTK = scores_BTE.detach().topk(top_k, dim=-1, sorted=False).indices
    counts_BE = F.one_hot(expert_ids_BTK, num_experts).sum((1, 2))
    share_BE = counts_BE * (num_experts / (top_k * num_positions))
    mean_BE = (scores_BTE / scores_BTE.sum(-1, keepdim=True)).mean(1)
    return (share_BE * mean_BE).sum(-1).mean()


def switch_balance_loss(probabilities_TE: Tensor, top_k: int = 1) -> Tensor:
    """Return the Switch loss: experts x sum over experts of (share of all selections) x (mean probability).

    Shares and means are over all tokens of a batch; the loss is 1 at perfect balance. Selections carry no gradient.

    Args:
        probabilities_TE: softmax over the experts, fp32.
        top_k: selected experts per token.

    Source: Switch Transformer (arXiv 2101.03961), equations 4 to 6.
    """
    num_tokens, num_experts = probabilities_TE.shape
    expert_ids_TK = probabilities_TE.detach().topk(top_k, dim=-1, sorted=False).indices
    share_E = torch.bincount(expert_ids_TK.flatten(), minlength=num_experts) / (top_k * num_tokens)
    return num_experts * (share_E * probabilities_TE.mean(0)).sum()


def indexer_loss(scores_BTS: Tensor, target_BTS: Tensor) -> Tensor:
    """Return the mean over queries of KL(target || softmax(scores)), in nats.

    Args:
        scores_BTS: scores of the indexer; minus infinity for masked keys.
        target_BTS: attention summed over heads, normalised to 1 per query; zero for masked keys.
    """
    logs_BTS = scores_BTS.log_softmax(-1).masked_fill(scores_BTS == -torch.inf, 0.0)
    return (torch.special.xlogy(target_BTS, target_BTS) - target_BTS * logs_BTS).sum(-1).mean()


@torch.no_grad()
def update_bias(expert_bias_E: Tensor, counts_E: Tensor, speed: float, centred: bool = False) -> None:
    """Lower the bias of each expert above the mean load by `speed`, and raise that of each expert below it, in place.

    Args:
        expert_bias_E: the router's selection bias, fp32.
        counts_E: tokens of each expert in the whole batch.
        speed: size of the change; an expert at the mean keeps its bias.
        centred: keep the mean of the biases constant, which the report does not do. Only differences of biases affect
            the selection; without centring, all biases drift when more experts are below the mean than above it.
    """
    change_E = (counts_E.float().mean() - counts_E.float()).sign() * speed
    expert_bias_E.add_(change_E - change_E.mean() if centred else change_E)
