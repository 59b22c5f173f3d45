import pytest

from model.trace import load as loads
from pages.common.tables import load_by_layer
from pages.observe.expert_load import tables
from tests.traces import random_trace, routed


def test_layers_as_a_table_below_what_chance_gives() -> None:
    load = loads.measure(routed([0, 1], [0, 1], [0, 1], [2, 3]))
    table = load_by_layer(load)
    assert table["layer"].tolist() == ["L1", "L2"]
    row = table.iloc[0]
    assert (row["tokens"], row["MaxVio"], row["dead"], row["hot"], row["busiest"]) == (4, 2, 4, 2, "L1E0")
    assert row["Gini"] == pytest.approx(0.625)
    assert load.band is not None
    bounds = tables.by_layer(load)
    assert bounds.columns.tolist() == table.columns.tolist()
    assert (bounds["layer"][0], bounds["MaxVio"][0], len(bounds)) == ("chance", load.band.max_violation, 3)


def test_experts_as_a_table_with_the_interval_of_their_share() -> None:
    table = tables.by_expert(loads.measure(routed([0, 1], [0, 1], [0, 1], [2, 3])), 2)
    assert table["expert"].tolist()[:2] == ["L2E0", "L2E1"]
    assert table["group"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    row = table.iloc[0]
    assert (row["tokens"], row["share of tokens"], row["× uniform"]) == (3, 0.75, 3)
    assert (row["low (95 %)"], row["high (95 %)"]) == pytest.approx((0.301, 0.954), abs=0.001)
    assert table["against chance"][7].startswith("took no token; ")


def test_groups_as_a_table() -> None:
    table = tables.by_group(loads.measure(routed([0, 1], [0, 1], [0, 1], [2, 3])))
    assert table["choices of its experts"].tolist() == [6, 2, 0, 0] * 2
    assert table["× uniform"].tolist() == [3, 1, 0, 0] * 2
    assert table["share"].groupby(table["layer"]).sum().tolist() == pytest.approx([2, 2])


def test_everything_has_a_row_per_layer_and_expert() -> None:
    load = loads.measure(routed([0, 1], [2, 3]))
    table = tables.by_layer_and_expert(load)
    assert len(table) == 16
    assert table["tokens"].sum() == 8
    assert table[(table["layer"] == 2) & (table["expert"] == 3)]["× uniform"].item() == 2


def test_share_of_tokens_that_kept_a_group_has_its_interval() -> None:
    trace = random_trace(num_prompt=40)
    load = loads.measure(trace)
    table = tables.by_group(load)
    assert (table.groupby("layer")["tokens that kept it"].sum() == 2 * trace.num_tokens).all()
    assert (table["share"] == table["tokens that kept it"] / trace.num_tokens).all()
    assert (table["low (95 %)"] < table["share"]).all()
    assert (table["share"] < table["high (95 %)"]).all()
