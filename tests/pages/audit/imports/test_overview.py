import numpy as np
from streamlit.testing.v1 import AppTest

from model.trace.file import dumps, loads
from pages.audit.imports import choices
from tests import engines
from tests.pages.audit.imports.conftest import ANSWER, bring
from tests.pages.audit.imports.test_page import OBSERVE
from tests.pages.conftest import said


def test_a_file_becomes_the_trace_on_show_everywhere(page: AppTest) -> None:
    app = bring(page, ANSWER)
    assert not app.exception
    assert ":violet-badge[imported]" in said(app)
    held = app.dataframe[0].value.set_index("part")
    assert held.loc["chosen experts", ["known", "tag"]].tolist() == ["6 of 7 tokens", "imported"]
    assert held.loc["weights", "tag"] == "missing"
    assert "vLLM sends only the ids" in held.loc["weights", "why not"]
    for name in OBSERVE:
        app.switch_page(name).run()
        assert not app.exception, name
        assert ":violet-badge[imported]" in said(app)


def test_an_imported_trace_can_be_saved_and_opened(page: AppTest) -> None:
    app = bring(page, ANSWER)
    shown = app.session_state["run"].trace
    app = bring(app, dumps(shown), "own.safetensors", choices.NOT_NAMED)
    assert ":violet-badge[imported]" in said(app)
    assert np.array_equal(loads(dumps(shown)).data["expert_id"], shown.data["expert_id"])


def test_counts_are_listed_and_the_run_on_show_stays(page: AppTest) -> None:
    counts = np.random.default_rng(1).integers(0, 50, (4, 16))
    counts[2, :3], counts[2, 5] = 0, 99
    content = engines.usage_history(counts)
    app = bring(page, content, ".coli_usage", choices.NOT_NAMED)
    assert "counts of experts do not say which layers" in app.error[0].value
    app = bring(app, content, ".coli_usage")
    assert not app.error
    assert "spread unknown" in said(app)
    assert "no expert can be called a specialist" in said(app)
    assert ":gray-badge[recorded]" in said(app)
    table = app.dataframe[0].value.set_index("layer")
    assert table["selections"].tolist() == counts.sum(1).tolist()
    assert table.loc["L3", ["busiest expert", "never selected"]].tolist() == ["E5", (counts[2] == 0).sum()]
    app = bring(app, ANSWER)
    assert "spread unknown" not in said(app)
