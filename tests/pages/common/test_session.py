import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
    with pytest.raises(TraceError, match="2 MB; 1 are read"):
        session.open_file(bytes(2 * 2**20))


def test_sessions_do_not_see_each_other(open_app: OpenApp, engine: FakeEngine) -> None:
    one, other = open_app(), open_app()
    one.text_area(key="prompt").set_value("secret of one")
    one.button(key="generate").click().run()
    other.run()
    assert shown_tokens(other) == "14"
    assert other.text_area(key="prompt").value == examples.FIRST
    assert "run" not in other.session_state


def test_allowed_folders_are_offered_after_the_embedded_ones(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "presets" / "mini").mkdir(parents=True)
    (tmp_path / "presets" / "mini" / "config.json").write_text("{}")
    monkeypatch.setattr(models, "PRESETS", tmp_path / "presets")
    monkeypatch.setenv(models.VARIABLE, f"{tmp_path / 'mine'}:{tmp_path / 'other' / 'mini'}:")
    assert list(models.available()) == ["mini", "mine", str(tmp_path / "other" / "mini")]
    monkeypatch.delenv(models.VARIABLE)
    assert list(models.available()) == ["mini"]


def test_engines_are_loaded_once_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    loaded = []
    monkeypatch.setattr(models, "load", lambda folder: loaded.append(folder) or FakeEngine())
    monkeypatch.setattr(limits, "KEPT_MODELS", 2)
    engines = models.Engines()
    a, b, c = (tmp_path / name for name in "abc")
    assert engines.get(a) is engines.get(a)
    for folder in (b, a, c):
        engines.get(folder)
    assert loaded == [a, b, c]
    assert engines.has(a)
    assert not engines.has(b)


def test_a_model_that_loads_slowly_keeps_nobody_from_a_loaded_one(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    begun, finish, loads = threading.Event(), threading.Event(), []

    def load(folder):
        loads.append(folder)
        if folder.name == "slow":
            begun.set()
            assert finish.wait(30)
        return FakeEngine()

    monkeypatch.setattr(models, "load", load)
    engines, slow, loaded = models.Engines(), tmp_path / "slow", tmp_path / "loaded"
    ready = engines.get(loaded)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(engines.get, slow) for _ in range(2)]
        assert begun.wait(30)
        assert pool.submit(engines.get, loaded).result(30) is ready
        assert not any(one.done() for one in waiting)
        finish.set()
    assert waiting[0].result() is waiting[1].result()
    assert loads == [loaded, slow]


def test_a_model_that_could_not_be_loaded_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    outcomes = iter([ValueError("damaged"), FakeEngine()])

    def load(folder):
        outcome = next(outcomes)
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    monkeypatch.setattr(models, "load", load)
    engines = models.Engines()
    with pytest.raises(ValueError, match="damaged"):
        engines.get(tmp_path)
    assert isinstance(engines.get(tmp_path), FakeEngine)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"hidden_size": 4}'])
def test_card_of_a_damaged_configuration(tmp_path, content: str) -> None:
    st.cache_data.clear()
    (tmp_path / "config.json").write_text(content)
    assert models.config(tmp_path) in ({}, {"hidden_size": 4})
