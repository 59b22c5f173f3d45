from collections.abc import Callable

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from model.trace.file import dumps
from model.trace.trace import TraceError
from pages.common import examples, limits, models, session
from tests.pages.fakes import FakeEngine
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]


def shown_tokens(app: AppTest) -> str:
    return next(metric.value for metric in app.metric if metric.label == "Tokens")


def upload(app: AppTest, content: bytes) -> AppTest:
    return app.file_uploader(key="upload").set_value(("trace.safetensors", content, "application/octet-stream")).run()


def test_uploaded_trace_is_shown(open_app: OpenApp) -> None:
    app = upload(open_app(), dumps(random_trace(num_prompt=8, num_new=3)))
    assert shown_tokens(app) == "11"
    assert any("from a file" in element.value for element in app.markdown)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"{" * 100, b"\xff" * 64])
def test_file_that_is_no_trace_is_refused_and_nothing_is_lost(open_app: OpenApp, content: bytes) -> None:
    app = upload(open_app(), content)
    assert not app.exception
    assert "not a MoE Loupe trace file" in app.error[0].value
    assert shown_tokens(app) == "14"


def test_trace_name_from_a_file_is_only_text(open_app: OpenApp) -> None:
    trace = random_trace()
    hostile = type(trace)(
        trace.data, trace.tokens, trace.text, trace.request, {"name": "<b>[x](http://y)"}, trace.origin
    )
    app = upload(open_app(), dumps(hostile))
    assert not app.exception
    line = next(element.value for element in app.markdown if "from a file" in element.value)
    assert "\\<b\\>\\[x\\]\\(http\\:" in line


def test_too_large_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPLOAD_BYTES", 2**20)
    with pytest.raises(TraceError, match="2 MB; at most 1 are read"):
        session.open_file(bytes(2 * 2**20))


def test_sessions_do_not_see_each_other(open_app: OpenApp, engine: FakeEngine) -> None:
    one, other = open_app(), open_app()
    one.text_area(key="prompt").set_value("secret of one")
    one.button(key="generate").click().run()
    other.run()
    assert shown_tokens(other) == "14"
    assert other.text_area(key="prompt").value == examples.FIRST
    assert "run" not in other.session_state


@pytest.mark.parametrize("content", ["", "[]", "{", '{"hidden_size": 4}'])
def test_card_of_a_damaged_configuration(tmp_path, content: str) -> None:
    st.cache_data.clear()
    (tmp_path / "config.json").write_text(content)
    assert models.config(tmp_path) in ({}, {"hidden_size": 4})
