import numpy as np

from pages.common import tables
from tests.traces import random_trace


def test_next_tokens_are_probabilities_with_their_logarithms() -> None:
    trace = random_trace()
    table = tables.next_tokens(trace, 3, None)
    assert table["rank"].tolist() == list(range(1, 21))
    assert table["log-probability (nat)"].tolist() == trace.data["candidate_logprob"][3].values.tolist()
    assert np.allclose(np.log(table["probability"]), table["log-probability (nat)"], atol=1e-6)
    assert table["token"][0] == f"#{trace.data['candidate_id'].values[3, 0]}"


def test_experts_of_a_token() -> None:
    trace = random_trace()
    table = tables.experts(trace, 2)
    assert table["layer"].tolist() == [1, 2]
    expert, weight = trace.data["expert_id"].values[2, 1, 0], trace.data["gate_weight"].values[2, 1, 0]
    assert table["rank 0"][1] == f"E{expert}  {weight:.2f}"


def test_routing_table_has_every_slot() -> None:
    trace = random_trace()
    table = tables.routing(trace)
    assert table.columns.tolist() == ["token", "layer", "rank", "expert", "weight"]
    assert len(table) == 10 * 2 * 2
    slot = table[(table["token"] == 4) & (table["layer"] == 2) & (table["rank"] == 1)].iloc[0]
    assert slot["expert"] == trace.data["expert_id"].sel(token=4, moe_layer=2, rank=1)


def test_a_file_of_tokens_holds_their_text_and_bytes() -> None:
    trace = random_trace()
    table = tables.with_bytes(trace, tables.tokens(trace))
    assert "".join(table["raw text"]).encode() == b"".join(map(bytes.fromhex, table["bytes (hex)"])) == trace.text
    assert [len(bytes.fromhex(spelled)) for spelled in table["bytes (hex)"]] == table["bytes"].tolist()
