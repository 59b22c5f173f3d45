import types

import pytest

from model.trace.facts.facts import facts_of
from model.trace.facts.sources import FactError, Sources
from tests.model.trace.facts.hand_made import hand_made

CONFIG = {
    "num_hidden_layers": 2, "num_attention_heads": 4, "kv_lora_rank": 8, "qk_rope_head_dim": 2,
    "qk_nope_head_dim": 3, "v_head_dim": 5, "index_topk": 4, "index_n_heads": 2, "index_head_dim": 6,
    "n_routed_experts": 8, "model_type": "deepseek_v32",
}  # fmt: skip
MODELS = {
    "random": types.SimpleNamespace(parameters=100, active=40, config={}),
    "sparse": types.SimpleNamespace(parameters=7, active=7, config=CONFIG),
    "dense": types.SimpleNamespace(parameters=7, active=7, config={}),
}
FACTS = facts_of(Sources(hand_made(), sizes=MODELS.__getitem__))


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("parameters", (), 100),
        ("active_parameters", (), 40),
        ("parameters", ("sparse",), 7),
        ("setting", ("topk_group",), 2),
        ("setting", ("n_routed_experts", "sparse"), 8),
        ("cache_bytes", ("MLA", "sparse"), 2 * 2 * (8 + 2 + 6)),
        ("cache_bytes", ("MHA", "sparse"), 2 * 2 * 4 * (3 + 5)),
        ("attention_work", ("dense attention", 10, "sparse"), 10 * 4 * 18),
        ("attention_work", ("sparse attention", 10, "sparse"), 4 * 4 * 18),
        ("attention_work", ("indexer", 10, "sparse"), 10 * 2 * 7),
    ],
)
def test_models(name: str, arguments: tuple, expected: float) -> None:
    assert FACTS[name](*arguments) == expected


def test_what_a_model_does_not_state_is_refused() -> None:
    for name, arguments, message in (
        ("parameters", ("gpt-9",), "no model named 'gpt-9'"),
        ("setting", ("model_type", "sparse"), "states no number 'model_type'"),
        ("attention_work", ("indexer", 10, "dense"), "dense has no indexer"),
        ("cache_bytes", ("GQA", "sparse"), "known are MLA"),
        ("cache_bytes", (), "lacks 'qk_nope_head_dim'"),
    ):
        with pytest.raises(FactError, match=message):
            FACTS[name](*arguments)
