"""Tapes that record the inputs of a training loss in a forward pass.

Shape suffixes: B sequences, T positions, S keys (as many as positions), H heads, Q query head width.
"""

import torch
from torch import Tensor

from model.network.attention import attention_weights
from model.network.decision import Routing, Selection
from model.network.tape import Tape
from model.train.losses import indexer_loss


class RoutingTape(Tape):
    """Keeps the routing of each MoE layer in one forward pass, with its autograd graph."""

    def __init__(self) -> None:
        self.routings: list[Routing] = []

    def routing(self, layer: int, routing: Routing) -> None:
        """Append a layer's routing; layers come in order."""
        self.routings.append(routing)


class IndexerTape(Tape):
    """Collects the loss of each layer's indexer."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self._scores_BTS: Tensor | None = None

    def selection(self, layer: int, selection: Selection) -> None:
        """Keep the scores of a layer's indexer until its attention is computed."""
        self._scores_BTS = selection.scores_BTS

    def attention(
        self, layer: int, query_BHTQ: Tensor, key_BHSQ: Tensor, scale: float, selection: Selection | None
    ) -> None:
        """Append the layer's indexer loss, whose target is the layer's mean attention over heads."""
        assert self._scores_BTS is not None
        scores_BTS = self._scores_BTS
        if selection is not None:  # only selected keys count
            scores_BTS = scores_BTS.masked_fill(~selection.kept_BTS, -torch.inf)
        with torch.no_grad():
            target_BTS = attention_weights(query_BHTQ, key_BHSQ, scale, selection).mean(1)
        self.losses.append(indexer_loss(scores_BTS, target_BTS))


class TrainingTape(RoutingTape, IndexerTape):
    """Records routing and indexer losses of a model with sparse attention."""

    def __init__(self) -> None:
        RoutingTape.__init__(self)
        IndexerTape.__init__(self)
