"""Layouts of routers for figures: only how many experts there are, and in how many groups."""

from model.trace.router_rule import RouterRule


def layout(num_experts: int, num_groups: int = 1) -> RouterRule:
    """A router of so many experts in so many groups."""
    return RouterRule(num_experts=num_experts, num_groups=num_groups, top_k=1)
