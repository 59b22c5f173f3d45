"""Sentences on the load of one expert.

Under fair routing, every token selects random experts (`model/trace/chance.py`).
"""

from model.trace.load import Load
from pages.observe.expert_load import tables


def about_busiest(load: Load, layer: int) -> str:
    """Return a sentence that compares the busiest expert of a layer with the busiest of a random router."""
    share = _share(load, layer, int(load.ratio.sel(moe_layer=layer).values.argmax()))
    if load.band is None:
        return f"{share}."
    beyond = float(load.violation.sel(moe_layer=layer)) > load.band.max_violation
    verdict = "more than chance explains" if beyond else "within chance"
    return (
        f"{share}. For the busiest of {load.rule.num_experts} experts this load is {verdict}: in 95 % of fair layers "
        f"the busiest expert takes at most {1 + load.band.max_violation:.3g} fair shares."
    )


def about_expert(load: Load, layer: int, expert: int) -> str:
    """Return a sentence that compares an expert's share with the shares of experts in a random router."""
    share = _share(load, layer, expert)
    if load.band is None:
        return f"{share}."
    against = tables.by_expert(load, layer)["against chance"].iloc[expert].replace("took no token; ", "")
    return f"{share}. The expert's load is {against}."


def _share(load: Load, layer: int, expert: int) -> str:
    row = tables.by_expert(load, layer).iloc[expert]
    return (
        f"**{row['expert']}** took {row['tokens']:,} of {load.num_tokens:,} tokens, {row['share of tokens']:.1%} "
        f"(95 % interval {row['low (95 %)']:.1%} to {row['high (95 %)']:.1%}). "
        f"A fair share is {load.rule.fair_share:.1%}"
    )
