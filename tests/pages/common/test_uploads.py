"""Uploaded traces, parsed once per file."""

import pytest
from streamlit.testing.v1 import AppTest

from model.trace import file
from tests.traces import random_trace


def script() -> None:
    import streamlit as st

    from pages.common import uploads

    try:
        st.session_state["trace"] = uploads.choose_trace("own", "A trace")
    except ValueError as error:
        st.error(str(error))


def test_file_is_parsed_once_and_another_one_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    loads = file.loads
    monkeypatch.setattr(file, "loads", lambda content: parsed.append(len(content)) or loads(content))
    app = AppTest.from_function(script).run()
    assert app.session_state["trace"] is None
    app.file_uploader(key="own-file").upload("one.safetensors", file.dumps(random_trace(seed=1))).run()
    app.run()
    assert len(parsed) == 1
    first = app.session_state["trace"]
    app.file_uploader(key="own-file").upload("two.safetensors", file.dumps(random_trace(seed=2))).run()
    assert len(parsed) == 2
    assert app.session_state["trace"] is not first
    app.file_uploader(key="own-file").upload("three.safetensors", b"pickle").run()
    assert "not a MoE Loupe trace" in app.error[0].value
