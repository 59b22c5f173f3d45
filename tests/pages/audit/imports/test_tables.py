import dataclasses

from model.trace.imports import origin
from pages.audit.imports import tables
from tests.traces import QWEN3, family_trace, random_trace, routed


def test_parts_of_a_measured_trace_are_all_there() -> None:
    held = tables.held(random_trace()).set_index("part")
    assert held["known"].drop("text").tolist() == ["all"] * (len(tables.PARTS) + 1)
    assert set(held["tag"]) == {"measured"}
    assert set(held["why not"]) == {""}


def test_missing_parts_have_their_reason() -> None:
    trace = routed([0, 1], [2, 3], unknown=1)
    data = trace.data.drop_vars(["gate_weight", "router_score"]).copy(deep=True)
    stated = origin.origin("vllm", "json", {"scores of the router": "not sent"}, derived=["expert_bias"])
    held = tables.held(dataclasses.replace(trace, data=data, origin=stated)).set_index("part")
    assert held.loc["chosen experts", ["known", "tag"]].tolist() == ["2 of 3 tokens", "imported"]
    assert "never processes the last sampled token" in held.loc["chosen experts", "why not"]
    assert held.loc["affinities"].tolist() == ["no", "missing", "not sent"]
    assert held.loc["weights"].tolist() == ["no", "missing", "it was not recorded"]
    assert held.loc["selection bias", "tag"] == "derived"


def test_a_router_without_bias_and_groups_is_the_reason_why_they_are_missing() -> None:
    held = tables.held(family_trace(QWEN3)).set_index("part")
    assert held.loc["selection bias", "why not"] == "the router has no bias"
    assert held.loc["kept groups", "why not"] == "the router has no groups"
    assert tables.held(family_trace(None)).set_index("part").loc["kept groups", "why not"] == "it was not recorded"
