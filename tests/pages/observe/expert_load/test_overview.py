import dataclasses

from model.trace import load as loads
from pages.common.tables import load_by_layer
from pages.observe.expert_load import overview, tables
from tests.traces import family_trace, routed


def test_words_name_the_layer_the_expert_and_the_tokens() -> None:
    load = loads.measure(routed(*[[5, 6]] * 60))
    words = overview.worst(load)
    assert "**L1**: E5 took 60 of 60 tokens, 4 times a fair share (MaxVio 3; chance alone gives at most " in words
    assert "6 of 8 experts took none (chance alone leaves out none)" in words
    assert "L1 would take 4 times as long" in words
    assert overview.verdict(load).startswith("**In 2 of 2 layers")
    assert "too few" not in overview.verdict(load)


def test_no_expert_is_called_dead_on_few_tokens() -> None:
    load = loads.measure(routed([0, 1], [2, 3], [4, 5]))
    assert "An expert without a token says little here" in overview.verdict(load)
    assert "fair routing leaves about 3.4 of a layer's 8 experts without one. From 18 tokens" in overview.verdict(load)


def test_without_the_router_there_is_no_telling_what_chance_gives() -> None:
    trace = routed([0, 1], [2, 3])
    data = trace.data.drop_vars(["router_score", "group_score", "group_kept", "expert_bias"])
    config = {"n_routed_experts": 8, "n_group": 8, "topk_group": 1}  # one expert a group, two to a token
    load = loads.measure(dataclasses.replace(trace, data=data, model={"name": "x", "config": config}))
    assert load.band is None
    assert "the bounds of chance are unknown" in overview.verdict(load)
    assert "chance" not in overview.worst(load)
    assert "against chance" not in tables.by_expert(load, 1)
    assert tables.by_layer(load).equals(load_by_layer(load))


def test_no_time_is_lost_to_choices_that_compute_nothing() -> None:
    load = loads.measure(family_trace(idle_from=6, num_prompt=2, num_new=0))
    words = overview.worst(load)
    assert "of 6 experts took none" in words
    assert words.endswith("so the page gives no time that imbalance costs.")
    assert "times as long" not in words
