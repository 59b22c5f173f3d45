"""The tape, to which the network's probe points write.

A run makes its own tape and passes it to `forward`. A probe point is one line that passes a local variable to the tape.
The network computes nothing for a probe point, and gives the same results with and without a tape. Tensors stay on
their device; the recorder moves them to the host once per step. The methods of `Tape` do nothing: a tape that records
only some probe points inherits from it and overrides their methods.

Shape suffixes: B batch, T new positions, S positions so far, H heads, Q query head width, D model width, V vocabulary,
N rows, one per token and selected expert.
"""

from typing import Protocol

from torch import Tensor

from model.network.decision import Routing, Selection


class Tape(Protocol):
    """The probe points of a forward pass."""

    def layer_input(self, layer: int, residual_BTD: Tensor) -> None:
        """Receive the residual stream that enters a layer."""

    def attention_output(self, layer: int, residual_BTD: Tensor) -> None:
        """Receive the residual stream between a layer's attention and its feed-forward block."""

    def layer_output(self, layer: int, residual_BTD: Tensor) -> None:
        """Receive the residual stream that leaves a layer."""

    def attention(
        self, layer: int, query_BHTQ: Tensor, key_BHSQ: Tensor, scale: float, selection: Selection | None
    ) -> None:
        """Receive a layer's queries and keys; in the absorbed form (attention.py), all query heads share one key head.

        If `selection` is not None, attention reads the selected keys only.
        """

    def selection(self, layer: int, selection: Selection) -> None:
        """Receive the scores and selection of a layer's indexer."""

    def routing(self, layer: int, routing: Routing) -> None:
        """Receive the decision of a layer's router, with batch and positions flattened into one axis."""

    def expert_outputs(self, layer: int, outputs_ND: Tensor, order_N: Tensor) -> None:
        """Receive the outputs of a layer's experts before their gate weights, a row per token and selected expert.

        `order_N` is the index of each row in the flattened axes [T, K] of `Routing.expert_ids_TK`. A pass over a single
        token, and one in training, do not send them.
        """
