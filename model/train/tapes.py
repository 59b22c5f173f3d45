"""What training wants to see of a forward pass."""

from model.network.moe import Routing
from model.network.tape import Tape


class RoutingTape(Tape):
    """Keeps each mixture layer's routing of one forward pass, with its graph; ignores every other probe point."""

    def __init__(self) -> None:
        self.routings: list[Routing] = []

    def routing(self, layer: int, routing: Routing) -> None:
        """Layers come in order."""
        self.routings.append(routing)
