"""Router layouts for tests of figures: the number of experts, of groups and of experts per token."""

from model.trace.router_rule import RouterRule


def layout(num_experts: int, num_groups: int = 1) -> RouterRule:
    """Return the layout of a router with this number of experts and groups."""
    return RouterRule(num_experts=num_experts, num_groups=num_groups, top_k=1)
