"""Reports as files: what they hold, what they never hold, and traces of any kind."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from model.report.choice import choose
from model.report.page import CONTENTS, report
from model.trace import load as loads
from model.trace import metrics
from model.trace.attention import ALL_HEADS
from model.trace.decision import Decision
from model.trace.imports.formats import read
from model.trace.trace import Token, Trace
from tests import engines
from tests.reports import Reader
from tests.traces import V4, family_trace, random_trace, routed

MOST_BYTES = 3_000_000
TAGS = (
    "html head meta title style body header main footer section nav h1 h2 h3 p a div span small strong code bdi i br "
    "time ul li dl dt dd table thead tbody tr th td svg desc rect path line circle text image"
)
KNOWN = frozenset(re.findall("[a-z0-9]+", TAGS))
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>\u202e</style></title>&lt;'


def page_of(trace: Trace, **chosen: Any) -> tuple[Reader, str]:
    html = report(trace, choose(trace, **chosen))
    return Reader(html), html


def is_harmless(page: Reader, html: str) -> bool:
    """Whether the file loads and executes nothing, and no text of the trace became markup."""
    assert {element.tag for element in page.elements} <= KNOWN
    for element in page.elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on"), name
            assert name not in ("src", "srcset", "action"), name
            if name == "href":
                assert value.startswith(("#", "data:image/png;base64,")), value
            if name == "style":
                assert re.fullmatch(r"--top: var\(--e\d+\)", value), value
    (style,) = page.all("style")
    assert not re.search(r"url\(|@import|expression|</", style.text)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", html)
    return len(html.encode()) < MOST_BYTES


def said(page: Reader, section: str) -> str:
    (found,) = page.all("section", id=section)
    return " ".join(found.whole_text.split())


def test_a_report_needs_nothing_else() -> None:
    page, html = page_of(random_trace())
    assert is_harmless(page, html)
    assert not re.search("https?:", html)
    assert [section.attributes["id"] for section in page.all("section")] == list(CONTENTS)
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    targets = {element.attributes["href"][1:] for element in page.all("a")}
    assert targets <= set(ids)
    (policy,) = page.all("meta", http_equiv="Content-Security-Policy")
    assert "default-src 'none'" in policy.attributes["content"]


def test_numbers_are_those_of_the_trace() -> None:
    trace = random_trace(num_prompt=9, num_new=11)
    page, _ = page_of(trace, layer=2, token=4, head=1)
    data, measured = trace.data, loads.measure(trace)

    chosen = {
        (int(mark.data("expert")), int(token))
        for mark in page.with_data("tokens")
        for token in mark.data("tokens").split()
        if mark.tag == "path"
    }
    ids = data["expert_id"].sel(moe_layer=2).values
    assert chosen == {(expert, token) for token, row in enumerate(ids.tolist()) for expert in row}

    path = {
        (int(box.data("layer")), int(box.data("expert"))): float(box.data("weight")) for box in page.with_data("rank")
    }
    at = data.isel(token=4)
    for layer in (1, 2):
        slots = zip(
            at["expert_id"].sel(moe_layer=layer).values, at["gate_weight"].sel(moe_layer=layer).values, strict=True
        )
        assert {path.pop((layer, int(expert))) for expert, _ in list(slots)} == {
            float(f"{weight:.5g}") for weight in at["gate_weight"].sel(moe_layer=layer).values.tolist()
        }
    assert not path

    bars = {int(bar.data("expert")): float(bar.data("ratio")) for bar in page.with_data("ratio")}
    assert np.allclose([bars[expert] for expert in range(8)], measured.ratio.sel(moe_layer=2).values, rtol=1e-4)
    outside = {(int(dot.data("layer")), int(dot.data("outside"))) for dot in page.with_data("outside")}
    rows, experts = np.nonzero(measured.outside.values)
    assert outside == {(row + 1, expert) for row, expert in zip(rows.tolist(), experts.tolist(), strict=True)}

    decision = Decision.of(trace, 4, 2)
    scores = {int(mark.data("expert")): float(mark.data("biased")) for mark in page.with_data("biased")}
    assert np.allclose([scores[expert] for expert in range(8)], decision.experts["biased"].values, rtol=1e-4)

    bits = metrics.surprisal_bits(data["logprob"]).values
    (row,) = page.all("tr", id="token-7")
    cells = [cell.whole_text for cell in row.inside]
    assert cells[0] == "7"
    assert cells[2] == str(trace.tokens[7].id)
    assert cells[5] == f"{bits[7]:.3g}"
    assert cells[6].startswith(f"E{ids[7, 0]} {data['gate_weight'].sel(moe_layer=2).values[7, 0]:.2f}, ")

    weights = data["attention"].sel(attention_layer=2, head=1).values[4, :5]
    key = int(weights.argmax())
    assert f"{weights[key]:.1%}" in said(page, "attention")
    assert trace.model["weights_sha256"] in said(page, "settings")


def test_a_thousand_tokens_of_a_large_model_stay_small() -> None:
    trace = random_trace(
        num_prompt=700, num_new=400, num_layers=2, num_experts=256, num_groups=8, num_kept=4, top_k=8, num_heads=1
    )
    page, html = page_of(trace, token=1050, head=ALL_HEADS)
    assert is_harmless(page, html)
    assert "The report shows tokens 1,000 to 1,099 of the 1,100" in said(page, "tokens")
    assert len(page.all("tr", id="token-1050")) == 1
    page, html = page_of(trace, token=3)
    assert is_harmless(page, html)
    assert "Each cell covers 3 x 3 pairs" in said(page, "attention")


def hostile_trace() -> Trace:
    trace = random_trace()
    spelled = HOSTILE.encode()
    tokens = (trace.tokens[0], *(
        Token(trace.tokens[index].id, HOSTILE, (index - 1) * len(spelled), index * len(spelled), index > 5)
        for index in range(1, trace.num_tokens)
    ))  # fmt: skip
    return dataclasses.replace(
        trace, tokens=tokens, text=spelled * 9,
        request={HOSTILE: HOSTILE, "prompt": HOSTILE, "interventions": [{"kind": "TopK", "k": HOSTILE}]},
        model=dict(trace.model) | {"name": HOSTILE, "config": dict(trace.model["config"]) | {HOSTILE: HOSTILE, "x": "http://a"}},
        origin={"kind": "imported", "format": HOSTILE, "engine": HOSTILE, "device": HOSTILE, "dtype": HOSTILE}
        | {"missing": {HOSTILE: HOSTILE}, "notes": [HOSTILE], "versions": {HOSTILE: HOSTILE}},
    )  # fmt: skip


def test_hostile_names_become_text() -> None:
    hostile = hostile_trace()
    page, html = page_of(hostile)
    assert is_harmless(page, html)
    assert "alert(1)" in said(page, "text")
    assert "alert(1)" in page.all("title")[0].text
    assert is_harmless(*page_of(hostile, with_text=False))


def secret_trace() -> Trace:
    """A run whose texts and ids occur nowhere else."""
    trace = random_trace(num_prompt=7, num_new=5)
    ids = np.arange(71_301, 71_301 + 997 * trace.num_tokens, 997, dtype=np.int32)
    text, tokens = b"", []
    for index, number in enumerate(ids.tolist()):
        spelled = f"zqx{index}vw ".encode() if index else b""
        tokens.append(Token(number, f"piece{index}qzx", len(text), len(text + spelled), index >= 7))
        text += spelled
    request = dict(trace.request) | {"prompt": text.decode(), "token_ids": ids.tolist(), "stop": "zqx2vw"}
    note = {"notes": ["the first token is piece0qzx"]}
    model = dict(trace.model) | {"config": dict(trace.model["config"]) | {"vocab_size": 100_000, "note": "zqx3vw"}}
    return dataclasses.replace(
        trace, data=trace.data.assign(token_id=("token", ids)), tokens=tuple(tokens), text=text, request=request,
        model=model, origin=dict(trace.origin) | note,
    )  # fmt: skip


def test_a_report_without_text_holds_no_text_and_no_id() -> None:
    trace = secret_trace()
    texts = {trace.text[token.start : token.end].decode().strip() for token in trace.tokens} - {""}
    secrets = texts | {token.piece for token in trace.tokens} | {str(token.id) for token in trace.tokens}
    secrets |= {f"{token.id:,}" for token in trace.tokens} | {trace.text[:5].hex(), trace.text[:6].hex(" ")}
    page, html = page_of(trace, token=4)
    assert len({secret for secret in secrets if secret in html}) >= 24  # the search can find them
    page, html = page_of(trace, token=4, with_text=False)
    assert {secret for secret in secrets if secret in html} == set()
    assert "zqx" not in html
    assert is_harmless(page, html)
    assert [section.attributes["id"] for section in page.all("section")] == list(CONTENTS)
    assert "without the text" in said(page, "text")


def imported() -> Trace:
    return read(engines.as_json(engines.vllm_npy(engines.random_ids())), "auto", engines.TINY)


def without(trace: Trace, *names: str) -> Trace:
    return dataclasses.replace(trace, data=trace.data.drop_vars(list(names)))


def test_an_imported_trace_says_what_is_missing_and_why() -> None:
    page, html = page_of(imported())
    assert is_harmless(page, html)
    assert "engines do not send it" in said(page, "attention")
    assert "sends only the ids of the chosen experts" in said(page, "token")
    assert "weights are unknown" in said(page, "routing")
    assert "engines differ in whether they apply the temperature" in said(page, "tokens")
    assert "imported" in said(page, "numbers")
    assert "measured" not in said(page, "numbers").replace("unmeasured", "")


def test_a_trace_of_tokens_alone_gives_a_report() -> None:
    trace = random_trace()
    bare = dataclasses.replace(trace, data=trace.data[["token_id"]])
    page, html = page_of(bare)
    assert is_harmless(page, html)
    for section in ("routing", "token", "load"):
        assert "does not hold the chosen experts" in said(page, section)
    assert "does not hold attention weights" in said(page, "attention")


@pytest.mark.parametrize(
    "trace",
    [
        family_trace(None), family_trace(V4, table_layers=(0, 1)), family_trace(), family_trace(idle_from=6),
        routed([0, 1], [2, 3], unknown=3), routed([-1, -1], unknown=1), random_trace(num_groups=1, num_kept=1),
        random_trace(num_prompt=1, num_new=0), without(random_trace(), "gate_weight", "router_score"),
        without(random_trace(), "expert_bias"), without(random_trace(), "group_kept", "group_score"),
        random_trace(num_layers=200, num_prompt=3, num_new=0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("with_text", [True, False])
def test_every_kind_of_router_gives_a_report(trace: Trace, with_text: bool) -> None:
    assert is_harmless(*page_of(trace, with_text=with_text))


def test_a_layer_whose_experts_follow_from_the_token_says_so() -> None:
    page, _ = page_of(family_trace(V4, table_layers=(0, 1)), layer=1)
    assert "a table gives the experts of each token id" in said(page, "token")
    page, _ = page_of(family_trace(None))
    assert "not known (no rule gives the recorded experts)" in said(page, "token")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_damaged_numbers_are_drawn_as_unknown(value: float) -> None:
    trace = random_trace()
    broken = {}
    for name in ("logprob", "router_score", "gate_weight", "attention", "expert_bias", "group_score"):
        values = trace.data[name].values.copy()
        values[..., :1] = value
        broken[name] = trace.data[name].copy(data=values)
    page, html = page_of(dataclasses.replace(trace, data=trace.data.assign(broken)))
    assert is_harmless(page, html)
    for element in page.elements:
        drawn = [element.attributes.get(name, "") for name in ("x", "y", "width", "height", "d", "cx", "cy", "opacity")]
        assert not re.search("nan|inf", " ".join(drawn)), element


def test_a_changed_run_says_so() -> None:
    trace = random_trace()
    changed = dataclasses.replace(
        trace, request=dict(trace.request) | {"interventions": [{"kind": "KnockOut", "layer": 1, "expert": 3}]}
    )
    page, _ = page_of(changed, layer=1)
    assert "L1E3 knocked out" in said(page, "routing")
    assert "need not follow from these scores" in said(page, "token")


def test_the_number_of_experts_must_be_known() -> None:
    trace = random_trace()
    unknown = dataclasses.replace(trace, data=trace.data[["token_id", "expert_id"]], model={"name": "x"})
    page, html = page_of(unknown)
    assert is_harmless(page, html)
    assert "does not state how many experts" in said(page, "load")
