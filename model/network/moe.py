"""The mixture of experts (MoE): a router, routed experts, and shared experts that are applied to every token.

The router returns its complete decision (`Routing`). The app shows that decision and recomputes nothing.

Shape suffixes: T tokens (batch and positions flattened), D model width, E experts, G groups, K selected experts,
I expert width, N rows (one per token and selected expert).

Source: DeepSeek-V3 report (arXiv 2412.19437), equations 12 to 16 and section 2.1.2; the released model adds the factor
`routed_scale`, which the equations lack. V2: arXiv 2405.04434, section 2.2; its affinities are a softmax, it has no
bias, and the score of a group is the affinity of its best expert.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.config import ModelConfig
from model.network.decision import Routing
from model.network.edit import LayerEdit
from model.network.layers import FeedForward, swiglu, without_autocast
from model.network.tape import Tape
from model.network.training_kernels import blocked_experts

NEVER = -math.inf
ALWAYS = math.inf


class Router(nn.Module):
    """Sigmoid or softmax router with group-limited top-k and a bias that affects the selection only (V2: zero)."""

    expert_bias: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        self.register_buffer("expert_bias", torch.zeros(config.num_experts, dtype=torch.float32))

    def forward(self, x_TD: Tensor, edit: LayerEdit | None = None) -> Routing:
        """Return the decision for each token: the selected experts, their gate weights, and the scores behind them."""
        edit = edit and edit.on(x_TD.device)
        scores_TE = self._score(x_TD, edit.temperature if edit else 1.0)
        biased_TE = scores_TE.detach()
        if not edit or edit.use_bias:
            biased_TE = biased_TE + self.expert_bias
        group_scores_TG, kept_TG = self._choose_groups(biased_TE, edit)
        if edit:
            biased_TE = biased_TE.masked_fill(edit.knocked_out_E, NEVER)
        choice_TGE = biased_TE.view(-1, self.config.num_groups, self.config.group_size)
        choice_TE = choice_TGE.masked_fill(~kept_TG.unsqueeze(-1), NEVER).view_as(biased_TE)
        if edit:
            choice_TE = choice_TE.masked_fill(edit.forced_E, ALWAYS)
        expert_ids_TK = choice_TE.topk(edit.top_k if edit else self.config.top_k, dim=-1).indices
        scores_TK = scores_TE.gather(-1, expert_ids_TK)
        if edit and edit.threshold:
            scores_TK = scores_TK.masked_fill(scores_TK < edit.threshold, 0.0)
        weights_TK = self._weigh(scores_TK)
        if edit:
            weights_TK = weights_TK.masked_fill(edit.knocked_out_E[expert_ids_TK], 0.0)
        if edit and edit.given is not None:
            expert_ids_TK, weights_TK = edit.given.over(expert_ids_TK, weights_TK)
        return Routing(scores_TE, group_scores_TG, kept_TG, expert_ids_TK, weights_TK)

    def _score(self, x_TD: Tensor, temperature: float) -> Tensor:
        """Return affinities [T, E], always in fp32, because rounding an affinity may change the selection."""
        with without_autocast(x_TD):
            logits_TE = F.linear(x_TD.float(), self.weight.float())
            if temperature != 1:
                logits_TE = logits_TE / temperature
            return logits_TE.softmax(-1) if self.config.scoring == "softmax" else logits_TE.sigmoid()

    def _choose_groups(self, biased_TE: Tensor, edit: LayerEdit | None) -> tuple[Tensor, Tensor]:
        """Return the group scores [T, G], and a mask [T, G] of the groups that are kept."""
        config = self.config
        if edit:  # knocked-out experts score as the lowest expert, so a constant added to all biases changes nothing
            biased_TE = torch.where(edit.knocked_out_E, biased_TE.amin(-1, keepdim=True), biased_TE)
        scores_TG = self._score_groups(biased_TE.view(-1, config.num_groups, config.group_size))
        if config.num_kept_groups == config.num_groups or (edit and not edit.limit_groups):
            return scores_TG, torch.ones_like(scores_TG, dtype=torch.bool)
        kept_ids = scores_TG.topk(config.num_kept_groups, dim=-1, sorted=False).indices
        return scores_TG, torch.zeros_like(scores_TG, dtype=torch.bool).scatter_(-1, kept_ids, True)

    def _score_groups(self, biased_TGE: Tensor) -> Tensor:
        """Return the group scores [T, G]: the sum of the two best biased scores (V3), or the best affinity (V2)."""
        if not self.config.has_selection_bias:
            return biased_TGE.amax(-1)
        return biased_TGE.topk(2, dim=-1).values.sum(-1)

    def _weigh(self, scores_TK: Tensor) -> Tensor:
        if self.config.normalise_weights:
            scores_TK = scores_TK / (scores_TK.sum(-1, keepdim=True) + 1e-20)
        return scores_TK * self.config.routed_scale


class Experts(nn.Module):
    """The routed experts of a layer, their weights stacked; each expert computes only the tokens that selected it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        experts, hidden, width = config.num_experts, config.hidden_size, config.expert_width
        self.gate_up = nn.Parameter(torch.empty(experts, 2 * width, hidden))  # gate rows first
        self.down = nn.Parameter(torch.empty(experts, hidden, width))

    def forward(
        self,
        x_TD: Tensor,
        expert_ids_TK: Tensor,
        weights_TK: Tensor,
        receive: Callable[[Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """Return for each token the weighted sum of its experts' outputs, [T, D].

        `receive` gets the outputs before the weights, [N, D], and the index of each row in the flattened axes [T, K];
        not in training, and not for a single token, whose outputs are weighted before they are complete.
        """
        if len(x_TD) == 1:
            # Sum in the order of expert ids, as below: the rounding must not depend on the ranks of the experts.
            ids_K, order_K = expert_ids_TK[0].sort()
            if x_TD.is_cuda and isinstance(self.gate_up, Tensor):  # weights from disk are read by number
                return self._one_token_on_gpu(x_TD, ids_K, weights_TK[0, order_K])
            return self._one_token(x_TD, ids_K.tolist(), weights_TK[0, order_K])
        if self.training:
            return blocked_experts(x_TD, self.gate_up, self.down, expert_ids_TK, weights_TK)
        order_N = expert_ids_TK.flatten().argsort(stable=True)  # groups the rows by expert
        token_N = order_N // expert_ids_TK.shape[1]
        counts_E = torch.bincount(expert_ids_TK.flatten(), minlength=len(self.gate_up))
        weights_N1 = weights_TK.flatten().index_select(0, order_N).to(x_TD.dtype).unsqueeze(-1)
        y_ND = self._grouped(x_TD.index_select(0, token_N), counts_E)
        if receive is not None:
            receive(y_ND, order_N)
        y_ND = (y_ND * weights_N1).to(x_TD.dtype)
        if x_TD.is_cuda:  # on CUDA, index_add adds in no fixed order, so two runs would round differently
            return summed_in_order(y_ND, order_N, expert_ids_TK.shape[1])
        return torch.zeros_like(x_TD).index_add(0, token_N, y_ND)

    def _one_token(self, x_1D: Tensor, expert_ids: list[int], weights_K: Tensor) -> Tensor:
        """Return the weighted sum of one token's experts, [1, D], without sorting and scattering."""
        inner_KI = swiglu(torch.cat([F.linear(x_1D, self.gate_up[expert]) for expert in expert_ids]))
        inner_KI = inner_KI * weights_K.to(x_1D.dtype).unsqueeze(-1)
        parts = [
            F.linear(row_1I, self.down[e])
            for e, row_1I in zip(expert_ids, inner_KI.chunk(len(expert_ids)), strict=True)
        ]
        return torch.cat(parts).sum(0, keepdim=True)

    def _one_token_on_gpu(self, x_1D: Tensor, expert_ids_K: Tensor, weights_K: Tensor) -> Tensor:
        """Return what `_one_token` returns. The ids stay on the GPU, because the CPU would wait for them."""
        inner_KI = swiglu(torch.matmul(self.gate_up.index_select(0, expert_ids_K), x_1D[0]))
        inner_KI = inner_KI * weights_K.to(x_1D.dtype).unsqueeze(-1)
        parts_KD1 = torch.bmm(self.down.index_select(0, expert_ids_K), inner_KI.unsqueeze(-1))
        return parts_KD1.squeeze(-1).sum(0, keepdim=True)

    def _grouped(self, x_ND: Tensor, counts_E: Tensor) -> Tensor:
        """Return the output of each row's expert, [N, D]; the rows are grouped by expert."""
        counts = counts_E.tolist()
        hit = [expert for expert, count in enumerate(counts) if count]
        sizes = [counts[expert] for expert in hit]
        rows = zip(x_ND.split_with_sizes(sizes), hit, strict=True)
        inner_NI = swiglu(torch.cat([F.linear(rows_ND, self.gate_up[expert]) for rows_ND, expert in rows]))
        rows = zip(inner_NI.split_with_sizes(sizes), hit, strict=True)
        return torch.cat([F.linear(rows_NI, self.down[expert]) for rows_NI, expert in rows])


def summed_in_order(y_ND: Tensor, order_N: Tensor, num_selected: int) -> Tensor:
    """Return the sum of each token's rows, [T, D], added in fp32 in the order of expert ids.

    Args:
        y_ND: one row per token and selected expert, grouped by expert.
        order_N: index of each row in the flattened axes [T, K].
        num_selected: the number K of selected experts per token.
    """
    rows_TK = order_N.argsort().view(-1, num_selected).sort(-1).values
    first_T, *others = rows_TK.unbind(-1)
    total_TD = y_ND.index_select(0, first_T).float()
    for row_T in others:
        total_TD += y_ND.index_select(0, row_T)
    return total_TD.to(y_ND.dtype)


class MixtureOfExperts(nn.Module):
    """Shared experts, applied to every token, plus the routed experts that the router selects."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.router = Router(config)
        self.experts = Experts(config)
        shared_width = config.num_shared_experts * config.expert_width
        self.shared = FeedForward(config.hidden_size, shared_width) if shared_width else None

    def forward(self, x_BTD: Tensor, tape: Tape | None = None, edit: LayerEdit | None = None) -> Tensor:
        x_TD = x_BTD.flatten(0, 1)
        routing = self.router(x_TD, edit)
        receive = None
        if tape is not None:
            tape.routing(self.layer, routing)
            receive = partial(tape.expert_outputs, self.layer)
        y_TD = self.experts(x_TD, routing.expert_ids_TK, routing.weights_TK, receive)
        if self.shared is not None:
            y_TD = y_TD + self.shared(x_TD)
        return y_TD.view_as(x_BTD)
