"""Where the network's probe points write.

A tape is made for one run and passed to `forward`. Each probe point is one line that hands over a local which exists
anyway; the network computes nothing for it, and what it computes never depends on whether a tape is there. A tape keeps
tensors on their device: moving them to the host is the recorder's work, once per step. A tape that wants only some of
the points inherits from `Tape`, whose methods keep nothing.

Shape suffixes: B batch, T new positions, S positions so far, H heads, Q query head width, D model width, V vocabulary.
"""

from typing import Protocol

from torch import Tensor

from model.network.decision import Routing, Selection


class Tape(Protocol):
    """What a run or a training step may want to see of a forward pass."""

    def layer_input(self, layer: int, residual_BTD: Tensor) -> None:
        """The residual stream as it enters a layer."""

    def layer_output(self, layer: int, residual_BTD: Tensor) -> None:
        """The residual stream as it leaves a layer."""

    def attention(
        self, layer: int, query_BHTQ: Tensor, key_BHSQ: Tensor, scale: float, selection: Selection | None
    ) -> None:
        """Queries and all keys of a layer; the keys may have one head that all queries share (absorbed form).

        With a selection, attention read the selected keys only.
        """

    def selection(self, layer: int, selection: Selection) -> None:
        """The indexer's scores and choice of a layer that has an indexer."""

    def routing(self, layer: int, routing: Routing) -> None:
        """The router's whole decision in a layer, batch and positions flattened into one axis."""
