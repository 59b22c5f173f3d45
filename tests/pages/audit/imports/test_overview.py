import numpy as np
from streamlit.testing.v1 import AppTest

from model.trace.file import dumps, loads
from pages.audit.imports import choices
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
