"""Every claim has its parts, sources and views."""

import json
import math
from typing import Any

import pytest

from model.checkpoint import costs
from model.checkpoint.embedded import released_config
from model.checkpoint.parts_v4 import FORMS
from pages.learn.architecture.catalogue import TITLES, load
from pages.learn.architecture.choices import spelled
from pages.learn.architecture.tabs import TABS as ARCHITECTURE_TABS
from pages.learn.what_changed import claims, generations
from pages.learn.what_changed.claims import Claim
from pages.observe.attention.tabs import TABS as HEAD_TABS
from pages.observe.routing.tabs import TABS as ROUTING_TABS
from pages.observe.sparse_attention.tabs import TABS as SPARSE_TABS

MAY_CHOOSE: dict[str, dict[str, Any]] = {
    "architecture": {"of": TITLES.values(), "table": ARCHITECTURE_TABS, "bytes": FORMS},
    "attention": {"tab": HEAD_TABS},
    "routing": {"part": ROUTING_TABS},
    "sparse_attention": {"part": SPARSE_TABS},
    "what_changed": {"subject": {claim.subject for claim in claims.claims()}},
}

each_claim = pytest.mark.parametrize("claim", claims.claims(), ids=lambda claim: claim.claim)


def published(name: str) -> dict[str, Any]:
    return json.loads(released_config(name).read_text(encoding="utf-8"))


@each_claim
def test_claim_has_all_parts(claim: Claim) -> None:
    texts = claims.texts()
    assert claim.origin in texts["origins"]
    assert claim.verdict in texts["verdicts"]
    assert claim.subject
    assert claim.claim.endswith(".")
    assert claim.says.endswith(".")
    assert claim.references
    assert all(where and texts["sources"][source] for source, where in claim.references)
    assert claim.views
    assert all(view.label for view in claim.views)


@each_claim
def test_views_of_a_claim_exist(claim: Claim) -> None:
    for view in claim.views:
        assert view.path.is_file()
        for name, value in view.choices.items():
            if (view.page, name) == ("architecture", "part"):
                shown = next(key for key, title in TITLES.items() if title == view.choices["of"])
                assert value in {spelled(part.key) for part in load(shown).parts.all}
            else:
                assert value in MAY_CHOOSE[view.page][name]


def test_sources_can_be_found_and_are_used() -> None:
    used = {source for each in (*claims.claims(), *generations.rows().values()) for source, _ in each.references}
    assert used == set(claims.texts()["sources"])
    for key in used:
        assert "](https://" in claims.reference(key, "section 1")


def test_words_are_plain() -> None:
    assert "!" not in claims.TEXT.read_text(encoding="utf-8")


def test_answer_agrees_with_the_verdicts() -> None:
    assert "none holds as it stands" in claims.texts()["answer"]
    verdicts = {claim.verdict for claim in claims.claims() if claim.origin == "article"}
    assert "right" not in verdicts
    assert len([claim for claim in claims.claims() if claim.origin == "article"]) == 6


def test_configurations_differ_in_what_the_page_names_only() -> None:
    before, after = published("deepseek-v3"), published("deepseek-v3.2")
    changed = {name for name in after if after[name] != before.get(name)}
    index = {"index_n_heads", "index_head_dim", "index_topk"}
    assert changed == index | {"architectures", "model_type", "quantization_config"}
    assert set(before) <= set(after)
    assert after["quantization_config"] == before["quantization_config"] | {"scale_fmt": "ue8m0"}
    assert [after[name] for name in sorted(index)] == [128, 64, 2048]
    named = {"vocab_size": 129_280, "n_group": 8, "topk_group": 4, "n_routed_experts": 256, "num_experts_per_tok": 8}
    named |= {"rms_norm_eps": 1e-6, "num_attention_heads": 128, "num_key_value_heads": 128}
    assert {name: before[name] for name in named} == named


def test_numbers_about_v4_are_those_of_its_configurations() -> None:
    flash, pro, before = (published(name) for name in ("deepseek-v4-flash", "deepseek-v4-pro", "deepseek-v3.2"))
    same = {
        "num_hash_layers": 3,
        "vocab_size": 129_280,
        "num_experts_per_tok": 6,
        "hc_mult": 4,
        "hc_sinkhorn_iters": 20,
    }
    same |= {"num_key_value_heads": 1, "head_dim": 512, "sliding_window": 128, "max_position_embeddings": 1_048_576}
    same |= {"scoring_func": "sqrtsoftplus", "topk_method": "noaux_tc", "swiglu_limit": 10, "expert_dtype": "fp4"}
    same |= {"num_nextn_predict_layers": 1}
    for config in (flash, pro):
        assert {name: config[name] for name in same} == same
        assert set(config["compress_ratios"]) == ({0, 4, 128})
        assert config["compress_ratios"][-1] == 0
        assert not {"n_group", "topk_group", "kv_lora_rank"} & set(config)
    assert (flash["compress_ratios"][:2], pro["compress_ratios"][:2]) == ([0, 0], [128, 128])
    assert (flash["routed_scaling_factor"], pro["routed_scaling_factor"]) == (1.5, 2.5)
    assert (flash["index_topk"], pro["index_topk"]) == (512, 1024)
    assert (flash["n_routed_experts"], pro["n_routed_experts"]) == (256, 384)
    assert before["max_position_embeddings"] == 163_840


def test_derived_numbers_about_v4() -> None:
    flash, pro, before = (load(name).parts for name in ("deepseek-v4-flash", "deepseek-v4-pro", "deepseek-v3.2"))
    million = 2**20
    shares = [costs.cache_bytes(parts, million) / costs.cache_bytes(before, million) for parts in (pro, flash)]
    assert [f"{share:.1%}" for share in shares] == ["11.5%", "8.0%"]
    mixes = sum(part.times * part.parameters for part in flash.main if part.kind.endswith("_mix"))
    assert f"{mixes / 1e6:.1f}" == "33.9"
    # A logit of 9: the square root of ln(1 + e^9) = 9.0001234, and 1 / (1 + e^-9).
    assert f"{math.sqrt(math.log1p(math.exp(9))):.3f} {1 / (1 + math.exp(-9)):.4f}" == "3.000 0.9999"
    # A key with logit 0 beside a sink of ln 3: 1 / (1 + 3).
    assert 1 / (1 + math.exp(math.log(3))) == pytest.approx(0.25)
