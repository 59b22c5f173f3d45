import numpy as np
import pytest

from model.trace import routing
from model.trace.decision import Decision
from model.trace.observed_rule import rule_of
from pages.observe.routing import path, tables
from tests.model.trace.test_decision import gate
from tests.pages.observe.routing.traces import losers
from tests.traces import random_trace


def test_table_has_every_step() -> None:
    table = tables.by_expert(Decision.of(gate(), 0, 3), losers(gate())).set_index("expert")
    assert table.index[:3].tolist() == ["E6", "E2", "E3"]
    assert table["weight"].loc["E6"] == pytest.approx(0.5357143)
    assert table["normalised"].loc["E6"] == pytest.approx(0.3 / 1.4)
    assert table["verdict"].loc["E0"] == path.LOST_TO_EITHER
    assert table["group score"].tolist() == pytest.approx([1.15, 1.1, 1.1, 1.0, 0.55, 1.15, 1.0, 0.55])
    assert np.allclose(table["affinity"] + table["bias"], table["with bias"])
    assert table["bias - mean"].sum() == pytest.approx(0, abs=1e-6)


def test_near_the_cut_are_the_chosen_the_losers_and_the_expert_in_focus() -> None:
    table = tables.by_expert(Decision.of(gate(), 0, 3), losers(gate()))
    assert tables.nearest(table, 5, others=1)["expert"].tolist() == ["E6", "E2", "E3", "E0", "E4", "E5"]


def test_pairs_stand_beside_what_fair_routing_gives() -> None:
    trace = random_trace(num_prompt=30)
    counts = routing.shared_tokens(trace.data["expert_id"].sel(moe_layer=[1]), 8).isel(moe_layer=0)
    table = tables.pairs(counts, rule_of(trace))
    assert table["tokens"].sum() == 2 * trace.num_tokens
    assert (table["share"] == table["tokens"] / table["of"]).all()
    assert (table["low (95 %)"] < table["share"]).all()
    assert ((table["high (95 %)"] > table["share"]) | (table["share"] == 1)).all()
    together = table["expert"] // 2 == table["also went to"] // 2
    assert set(table["fair share"][together]) <= {1 / 3}
    assert set(table["fair share"][~together]) == {1 / 3 * (1 / 3)}
