"""Every claim has its parts, sources and views."""

import json
from typing import Any

import pytest

from model.checkpoint.embedded import CONFIGS
from pages.learn.architecture.tabs import TABS as ARCHITECTURE_TABS
from pages.learn.what_changed import claims
from pages.learn.what_changed.claims import Claim
from pages.observe.attention.tabs import TABS as HEAD_TABS
from pages.observe.routing.tabs import TABS as ROUTING_TABS
from pages.observe.sparse_attention.tabs import TABS as SPARSE_TABS

MAY_CHOOSE: dict[str, dict[str, Any]] = {
    "architecture": {"of": ("DeepSeek-V3", "DeepSeek-V3.2"), "table": ARCHITECTURE_TABS},
    "attention": {"tab": HEAD_TABS},
    "routing": {"part": ROUTING_TABS},
    "sparse_attention": {"part": SPARSE_TABS},
}

each_claim = pytest.mark.parametrize("claim", claims.claims(), ids=lambda claim: claim.claim)


def published(name: str) -> dict[str, Any]:
    return json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))


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
            if (view.page, name) != ("architecture", "part"):
                assert value in MAY_CHOOSE[view.page][name]


def test_sources_can_be_found_and_are_used() -> None:
    used = {source for claim in claims.claims() for source, _ in claim.references}
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
