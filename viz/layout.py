"""The router layout that figures need. Router rules and model configurations both provide it."""

from typing import Protocol


class Layout(Protocol):
    """Numbers of experts and groups in an MoE layer, of groups that a token keeps, and of experts that it selects."""

    @property
    def num_experts(self) -> int: ...
    @property
    def num_groups(self) -> int: ...
    @property
    def num_kept_groups(self) -> int: ...
    @property
    def top_k(self) -> int: ...
