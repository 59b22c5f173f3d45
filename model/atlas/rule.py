"""The router rule of the model that was swept."""

from model.atlas.folder import Sweep
from model.trace.router_rule import RouterRule
from model.trace.trace import TraceError


def rule_of(sweep: Sweep) -> RouterRule:
    """Return the rule that the model's configuration states, with the experts and the top-k of the manifest.

    A configuration that states no rule, or one of other experts, gives a rule without groups: what the groups force
    is then unknown.
    """
    try:
        rule = RouterRule.of(sweep.manifest.model.get("config") or {})
    except TraceError:
        rule = None
    if rule is not None and (rule.num_experts, rule.top_k) == (sweep.num_experts, sweep.top_k):
        return rule
    return RouterRule(
        num_experts=sweep.num_experts, top_k=sweep.top_k, has_selection_bias=False, normalise_weights=None,
        routed_scale=None,
    )  # fmt: skip
