"""An expert in words: the busiest is judged as the busiest, a chosen one by itself."""

import numpy as np

from model.trace import load as loads
from model.trace.chance import count_bounds
from pages.observe.expert_load import sentences
from tests.traces import routed


def test_share_has_its_interval() -> None:
    load = loads.measure(routed(*[[5, 6]] * 60))
    assert "took 60 of 60 tokens, 100.0% (95 % interval 94.0% to 100.0%)" in sentences.about_expert(load, 2, 6)


def test_busiest_expert_is_judged_as_the_largest_of_all() -> None:
    """Of 60 tokens 24 would be beyond chance for one given expert of eight, but are not for the busiest of them."""
    rng = np.random.default_rng(0)
    slots = [[0, 1 + token % 7] if token < 24 else sorted((1 + rng.permutation(7)[:2]).tolist()) for token in range(60)]
    load = loads.measure(routed(*slots))
    assert load.counts.sel(moe_layer=1, expert=0).item() == load.counts.max().item() == 24
    assert count_bounds(60, 2 / 8) == (9, 22)
    assert sentences.about_expert(load, 1, 0).endswith("The expert's load is within chance.")
    assert "For the busiest of 8 experts this load is within chance: in 95 % of fair layers" in sentences.about_busiest(
        load, 1
    )
    unfair = loads.measure(routed(*[[5, 6]] * 60))
    assert "For the busiest of 8 experts this load is more than chance explains" in sentences.about_busiest(unfair, 1)
