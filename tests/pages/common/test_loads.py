import dataclasses

import numpy as np
import pytest
import xarray as xr

from model.trace.trace import Trace
from pages.common import loads
from pages.observe.expert_load import tabs
from tests.traces import random_trace


def routed(*slots: list[int], num_experts: int = 8, unknown: int = 0) -> Trace:
    """A trace whose tokens took these experts in both layers, the last ones unknown."""
    rows = [*slots, *[[-1, -1]] * unknown]
    trace = random_trace(num_prompt=len(rows), num_new=0, num_experts=num_experts)
    ids = np.repeat(np.array(rows, np.int16)[:, None], 2, axis=1)
    data = trace.data.assign(expert_id=(("token", "moe_layer", "rank"), ids))
    return dataclasses.replace(trace, data=data, origin={"kind": "imported" if unknown else "measured"})


def only(trace: Trace, *places: int) -> xr.DataArray:
    return xr.DataArray(np.isin(np.arange(trace.num_tokens), places), dims=("token",))


def test_counts_and_chance_are_of_the_tokens_that_count() -> None:
    trace = routed([0, 1], [0, 2], [3, 4])
    load = loads.measure(trace, only(trace, 0, 1))
    assert load.counts.values.tolist() == [[2, 1, 1, 0, 0, 0, 0, 0]] * 2
    assert load.band is not None
    assert (load.num_tokens, load.num_unknown, load.band.num_tokens) == (2, 0, 2)
    assert loads.measure(trace).num_tokens == 3


def test_tokens_whose_experts_are_unknown_do_not_count() -> None:
    load = loads.measure(routed([0, 1], [2, 3], unknown=2))
    assert load.band is not None
    assert (load.num_tokens, load.num_unknown, load.band.num_tokens) == (2, 2, 2)


def test_nothing_counted_has_neither_ratio_nor_chance() -> None:
    trace = routed([0, 1])
    load = loads.measure(trace, only(trace))
    assert (load.num_tokens, load.band, load.kept) == (0, None, None)
    assert np.isnan(load.ratio.values).all()


def test_layers_as_a_table_below_what_chance_gives() -> None:
    load = loads.measure(routed([0, 1], [0, 1], [0, 1], [2, 3]))
    table = loads.by_layer(load)
    assert table["layer"].tolist() == ["L1", "L2"]
    row = table.iloc[0]
    assert (row["tokens"], row["MaxVio"], row["dead"], row["hot"], row["busiest"]) == (4, 2, 4, 2, "L1E0")
    assert row["Gini"] == pytest.approx(0.625)
    assert load.band is not None
    bounds = loads.with_bounds(load)
    assert bounds.columns.tolist() == table.columns.tolist()
    assert (bounds["layer"][0], bounds["MaxVio"][0], len(bounds)) == ("chance", load.band.max_violation, 3)


def test_experts_as_a_table_with_the_interval_of_their_share() -> None:
    table = loads.by_expert(loads.measure(routed([0, 1], [0, 1], [0, 1], [2, 3])), 2)
    assert table["expert"].tolist()[:2] == ["L2E0", "L2E1"]
    assert table["group"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    row = table.iloc[0]
    assert (row["tokens"], row["share of tokens"], row["× uniform"]) == (3, 0.75, 3)
    assert (row["low (95 %)"], row["high (95 %)"]) == pytest.approx((0.301, 0.954), abs=0.001)
    assert table["against chance"][7].startswith("took no token; ")


def test_groups_as_a_table() -> None:
    table = loads.by_group(loads.measure(routed([0, 1], [0, 1], [0, 1], [2, 3])))
    assert table["choices of its experts"].tolist() == [6, 2, 0, 0] * 2
    assert table["× uniform"].tolist() == [3, 1, 0, 0] * 2
    assert table["share"].groupby(table["layer"]).sum().tolist() == pytest.approx([2, 2])


def test_everything_has_a_row_per_layer_and_expert() -> None:
    load = loads.measure(routed([0, 1], [2, 3]))
    table = loads.everything(load)
    assert len(table) == 16
    assert table["tokens"].sum() == 8
    assert table[(table["layer"] == 2) & (table["expert"] == 3)]["× uniform"].item() == 2


def test_words_name_the_layer_the_expert_and_the_tokens() -> None:
    load = loads.measure(routed(*[[5, 6]] * 60))
    said = tabs.worst(load)
    assert "**L1**: E5 took 60 of 60 tokens, 4 times a fair share (MaxVio 3; chance alone gives up to " in said
    assert "6 of 8 experts took none (chance alone leaves out none)" in said
    assert "L1 would take 4 times as long" in said
    assert tabs.verdict(load).startswith("**In 2 of 2 layers")
    assert "too few" not in tabs.verdict(load)
    assert "took 60 of 60 tokens, 100.0% (95 % interval 94.0% to 100.0%)" in tabs.about_expert(load, 2, 6)


def test_no_expert_is_called_dead_on_few_tokens() -> None:
    load = loads.measure(routed([0, 1], [2, 3], [4, 5]))
    assert "too few to call an expert dead" in tabs.verdict(load)
    assert "that takes at least 13." in tabs.verdict(load)


def test_without_the_router_there_is_no_telling_what_chance_gives() -> None:
    trace = routed([0, 1], [2, 3])
    data = trace.data.drop_vars(["router_score", "group_score", "group_kept", "expert_bias"])
    config = {"n_routed_experts": 8, "n_group": 8, "topk_group": 1}  # one expert a group, two to a token
    load = loads.measure(dataclasses.replace(trace, data=data, model={"name": "x", "config": config}))
    assert load.band is None
    assert "cannot be told" in tabs.verdict(load)
    assert "chance" not in tabs.worst(load)
    assert "against chance" not in loads.by_expert(load, 1)
    assert loads.with_bounds(load).equals(loads.by_layer(load))


def test_share_of_tokens_that_kept_a_group_has_its_interval() -> None:
    trace = random_trace(num_prompt=40)
    load = loads.measure(trace)
    table = loads.by_group(load)
    assert (table.groupby("layer")["tokens that kept it"].sum() == 2 * trace.num_tokens).all()
    assert (table["share"] == table["tokens that kept it"] / trace.num_tokens).all()
    assert (table["low (95 %)"] < table["share"]).all()
    assert (table["share"] < table["high (95 %)"]).all()
