"""The router layout that figures need; a router rule and a model's configuration have these attributes."""

from typing import Protocol


class Layout(Protocol):
    """Experts and groups of an MoE layer, and how many of them a token selects."""

    @property
    def num_experts(self) -> int: ...
    @property
    def num_groups(self) -> int: ...
    @property
    def num_kept_groups(self) -> int: ...
    @property
    def top_k(self) -> int: ...
