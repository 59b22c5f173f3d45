"""The router's layout that figures need; a router rule or a model's configuration has these attributes."""

from typing import Protocol


class Layout(Protocol):
    """Experts of an MoE layer: how many there are, in which groups, and how many a token selects."""

    @property
    def num_experts(self) -> int: ...
    @property
    def num_groups(self) -> int: ...
    @property
    def num_kept_groups(self) -> int: ...
    @property
    def top_k(self) -> int: ...
