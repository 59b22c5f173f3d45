import dataclasses
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from model.trace.file import save
from tests.pages.conftest import charts, said
from tests.pages.fakes import FakeEngine
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]


def figures(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def test_drafts_stand_beside_their_tokens(open_app: OpenApp, recorded: Path) -> None:
    trace = random_trace(seed=9, num_prompt=5, num_new=30, drafts=True)
    save(trace, recorded / "story.safetensors")
    app = open_app(tab="Drafts")
    assert not app.exception
    found, data = figures(app), trace.data
    tried = data["draft_tried"].values
    right = (data["draft_id"] == data["token_id"]).values
    assert found["Accepted"] == f"{right[tried].mean():.0%}"
    assert found["Passes saved"] == f"{right[tried].sum()} of 30"
    (table,) = [frame.value for frame in app.dataframe if "draft" in frame.value]
    assert table["matches"].tolist() == right.tolist()
    assert table["verified"].tolist() == tried.tolist()
    assert table["draft"].isna().tolist() == [True, True] + [False] * 33
    page = next(element.proto.body for element in app.get("html") if 'class="strip drafts"' in element.proto.body)
    assert page.count("✓") == right.sum() + 2  # two in the legend
    bars, marks = charts(app)[0]["data"]
    assert len(bars["x"]) == len(marks["x"]) == 2


def test_drafts_that_no_run_verified_have_no_acceptance_rate(open_app: OpenApp, recorded: Path) -> None:
    trace = random_trace(seed=9, num_prompt=5, num_new=30, drafts=True)
    unverified = trace.data.drop_vars("draft_expert_id").assign(draft_tried=trace.data["draft_tried"] & False)
    trace = dataclasses.replace(trace, data=unverified)
    save(trace, recorded / "story.safetensors")
    app = open_app(tab="Drafts")
    assert not app.exception
    found = figures(app)
    matches = (trace.data["draft_id"] == trace.data["token_id"]).values[5:]
    assert found["Matching in new text"] == f"{matches.mean():.0%}"
    assert not {"Accepted", "Passes saved"} & set(found)
    assert "This run verified no draft" in said(app)


def test_trace_without_drafts_says_why_there_are_none(open_app: OpenApp) -> None:
    assert "This trace holds no drafts" in said(open_app(tab="Drafts"))


def test_drafts_are_recorded_where_the_model_makes_them(open_app: OpenApp, engine: FakeEngine) -> None:
    engine.abilities = dataclasses.replace(engine.abilities, captures=engine.abilities.captures | {"drafts"})
    app = open_app()
    app.button(key="generate").click().run()
    assert engine.requests[0].capture.variables == {"router", "attention", "inputs", "drafts"}
    assert not engine.requests[0].verify_drafts
    app.toggle(key="verify").set_value(True)
    app.button(key="generate").click().run()
    assert engine.requests[1].verify_drafts
