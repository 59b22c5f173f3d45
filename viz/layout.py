"""The router layout that figures need. Router rules and model configurations both provide it."""

from typing import Protocol


class Layout(Protocol):
    """The number of experts and groups of an MoE layer, of groups kept per token, and of experts selected per token."""

    @property
    def num_experts(self) -> int: ...
    @property
    def num_groups(self) -> int: ...
    @property
    def num_kept_groups(self) -> int: ...
    @property
    def top_k(self) -> int: ...
