"""The page on the way from V3 to V3.2: every claim with its parts, the links, the filters."""

import json
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from model.checkpoint.embedded import CONFIGS
from pages.common.menu import page_path
from pages.learn.architecture.tabs import TABS as ARCHITECTURE_TABS
from pages.learn.what_changed import claims
from pages.learn.what_changed.claims import ALL, Claim
from pages.observe.attention.tabs import TABS as HEAD_TABS
from pages.observe.routing.tabs import TABS as ROUTING_TABS
from pages.observe.sparse_attention.tabs import TABS as SPARSE_TABS
from tests.pages.conftest import said

ShowAt = Callable[..., AppTest]
PAGE = page_path("what_changed")
# A page -> the choices that a link to it may make; an architecture's parts are tried on the page itself.
MAY_CHOOSE: dict[str, dict[str, Any]] = {
    "architecture": {"of": ("DeepSeek-V3", "DeepSeek-V3.2"), "table": ARCHITECTURE_TABS},
    "attention": {"tab": HEAD_TABS},
    "routing": {"part": ROUTING_TABS},
    "sparse_attention": {"part": SPARSE_TABS},
}
each_claim = pytest.mark.parametrize("claim", claims.claims(), ids=lambda claim: claim.claim)


def shown(app: AppTest) -> list[str]:
    """The claims on the page, in bold there."""
    assert not app.exception
    bold = {f"**{claim.claim}**": claim.claim for claim in claims.claims()}
    return [bold[each.value] for each in app.markdown if each.value in bold]


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
    assert "no claim of the article below holds" in claims.texts()["answer"]
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


def test_page_shows_every_claim_with_its_links(show_at: ShowAt) -> None:
    app = show_at()
    assert shown(app) == [claim.claim for claim in claims.claims()]
    links = [link.proto for link in app.get("page_link")]
    views = [view for claim in claims.claims() for view in claim.views]
    assert [link.label for link in links] == [view.label for view in views]
    for link, view in zip(links, views, strict=True):
        assert link.page == view.page
        assert dict(urllib.parse.parse_qsl(link.query_string)) == view.choices


def test_counts_are_those_of_the_claims(show_at: ShowAt) -> None:
    text = said(show_at(verdict="wrong"))
    assert "Claims of the article: 6 " in text
    for count in ("0 right]", "1 right with a reservation]", "3 wrong]", "2 not said by the sources]"):
        assert count in text


@pytest.mark.parametrize("verdict", claims.texts()["verdicts"])
def test_verdict_filters(show_at: ShowAt, verdict: str) -> None:
    app = show_at(verdict=verdict)
    expected = [claim for claim in claims.claims() if claim.verdict == verdict]
    assert shown(app) == [claim.claim for claim in expected]
    assert app.dataframe[0].value["claim"].tolist() == [claim.claim for claim in expected]


@pytest.mark.parametrize("subject", sorted({claim.subject for claim in claims.claims()}))
def test_subject_filters(show_at: ShowAt, subject: str) -> None:
    app = show_at(subject=subject)
    assert shown(app) == [claim.claim for claim in claims.claims() if claim.subject == subject]


def test_filters_together_and_without_a_match(show_at: ShowAt) -> None:
    app = show_at(subject="attention", verdict="right with a reservation")
    assert shown(app) == [claim.claim for claim in claims.matching("right with a reservation", "attention")]
    verdict = next(group for group in app.get("button_group") if group.key == "verdict")
    subject = next(group for group in app.get("button_group") if group.key == "subject")
    subject.set_value("precision")
    verdict.set_value("wrong").run()
    assert shown(app) == []
    assert "Choose another" in said(app)
    assert list(app.dataframe[0].value.columns)[:2] == ["said by", "subject"]


def test_unknown_choice_in_the_address_shows_all(show_at: ShowAt) -> None:
    assert len(shown(show_at(verdict="splendid", subject="weather"))) == len(claims.claims())


def test_table_has_every_claim_with_references_in_words() -> None:
    table = claims.table(claims.matching(ALL, ALL))
    assert len(table) == len(claims.claims())
    assert (table != "").all(axis=None)
    assert table["references"].str.contains("arXiv|https://").all()
    assert not table["references"].str.contains(r"\]\(").any()


@pytest.mark.parametrize("page", sorted({view.page for claim in claims.claims() for view in claim.views}))
def test_linked_pages_take_the_choices(show_at: ShowAt, page: str) -> None:
    app = show_at()
    for view in (view for claim in claims.claims() for view in claim.views if view.page == page):
        app.switch_page(PAGE).run()  # as a visitor comes from there
        app.switch_page(str(view.path))
        app.query_params.clear()
        for name, value in view.choices.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception
        if page == "architecture" and "part" in view.choices:
            assert app.selectbox(key="part").value == view.choices["part"].replace(" ", "-")
