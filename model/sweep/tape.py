"""The small tape of a sweep: ids, gate weights, margins and output norms of one forward pass, and no trace.

Shape suffixes: T tokens (batch and positions flattened), E experts, G groups, K selected experts, N rows, one per token
and selected expert, D model width, L MoE layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.network.decision import Routing
from model.network.moe import Router
from model.network.tape import Tape


class SweepTape(Tape):
    """Records the routing of each MoE layer of the own network."""

    def __init__(self, routers: Sequence[Router]) -> None:
        self._routers = iter(routers)
        self.ids: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.margins: list[Tensor] = []
        self.norms: list[Tensor] = []

    def routing(self, layer: int, routing: Routing) -> None:
        """Keep a layer's ids and weights, and its margins; layers come in order."""
        router = next(self._routers)
        self.ids.append(routing.expert_ids_TK)
        self.weights.append(routing.weights_TK)
        self.margins.append(margins(router, routing))

    def expert_outputs(self, layer: int, outputs_ND: Tensor, order_N: Tensor) -> None:
        """Keep the norm of each expert's output, [T, K]."""
        norms_N = torch.linalg.vector_norm(outputs_ND, dim=-1, dtype=torch.float32)
        ids_TK = self.ids[-1]
        self.norms.append(torch.empty_like(norms_N).index_copy_(0, order_N, norms_N).view(ids_TK.shape))

    def arrays(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ids [T, L, K], weights [T, L, K], margins [T, L] and norms [T, L, K] on the host, ordered by id."""
        parts = (self.ids, self.weights, self.margins, self.norms)
        ids, weights, margins_TL, norms = (torch.stack([one.cpu() for one in part], 1) for part in parts)
        ids, order = ids.sort(-1)
        return ids, weights.gather(-1, order), margins_TL, norms.gather(-1, order)


def margins(router: Router, routing: Routing) -> Tensor:
    """Return the lowest selected biased score minus the best unselected one of the kept groups, [T].

    The margin is infinite if every expert of the kept groups is selected.
    """
    config = router.config
    biased_TE = routing.scores_TE + router.expert_bias
    if config.num_kept_groups < config.num_groups:
        biased_TGE = biased_TE.view(-1, config.num_groups, config.group_size)
        biased_TE = biased_TGE.masked_fill(~routing.kept_groups_TG.unsqueeze(-1), -torch.inf).view_as(biased_TE)
    if config.top_k == config.num_experts:
        return biased_TE.new_full((len(biased_TE),), torch.inf)
    best_TK = biased_TE.topk(config.top_k + 1, dim=-1).values
    return best_TK[:, -2] - best_TK[:, -1]
