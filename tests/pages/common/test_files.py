"""Uploaded traces, parsed once per file; names of saved files, and the note on saved charts."""

import json
import re
from typing import Any

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from model.trace import file
from pages.common import files, session, text
from tests.traces import random_trace

DATE = r"20\d\d-\d\d-\d\d"


def script() -> None:
    import streamlit as st

    from pages.common import files

    try:
        st.session_state["trace"] = files.choose_trace("own", "A trace")
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


def page_with_a_chart() -> None:
    import pandas as pd
    import plotly.graph_objects as go
    import streamlit as st

    from pages.common import controls, files

    if st.query_params.get("about"):
        files.describe(st.query_params["about"])
    controls.chart(go.Figure(layout={"height": 200}), "routing-path", pd.DataFrame({"a": [1 / 3]}), "A chart.", layer=3)


def drawn(monkeypatch: pytest.MonkeyPatch, words: str, about: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """The layout of a chart of a run that begins with these words, and what its toolbar saves."""
    trace = random_trace()
    monkeypatch.setattr(session, "current_trace", lambda: trace)
    monkeypatch.setattr(text, "beginning", lambda trace: words)
    app = AppTest.from_function(page_with_a_chart)
    if about:
        app.query_params["about"] = about
    app.run()
    assert not app.exception
    chart = app.get("plotly_chart")[0].proto
    return json.loads(chart.spec)["layout"], json.loads(chart.config)["toImageButtonOptions"]


def test_a_saved_chart_names_model_words_layer_and_date(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, image = drawn(monkeypatch, "Once upon a time…")
    assert re.fullmatch(f"random · Once upon a time… · layer 3 · {DATE}", layout["title"]["text"])
    assert re.fullmatch(f"random-once-upon-a-time-routing-path-L3-{DATE}", image["filename"])


def test_markup_and_signs_of_a_prompt_reach_neither_note_nor_file_name(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, image = drawn(monkeypatch, '<a href="x">../../größer: 雪/\\')
    assert '&lt;a href="x"&gt;' in layout["title"]["text"]
    assert re.fullmatch(f"random-a-href-x-größer-雪-routing-path-L3-{DATE}", image["filename"])


def test_a_page_that_shows_no_run_names_its_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, image = drawn(monkeypatch, "Once", about="training of mini-v3")
    assert re.fullmatch(f"training of mini-v3 · layer 3 · {DATE}", layout["title"]["text"])
    assert re.fullmatch(f"training-of-mini-v3-routing-path-L3-{DATE}", image["filename"])


def test_a_chart_is_saved_170_mm_wide_with_its_note_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, image = drawn(monkeypatch, "Once")
    assert image["format"] == "svg"
    assert image["width"] * image["scale"] / 96 * 25.4 == pytest.approx(170)
    assert image["width"] * files.scale("png") == pytest.approx(170 / 25.4 * 300)
    assert layout["height"] == image["height"] > 200
    assert layout["paper_bgcolor"] == "#ffffff"


def test_a_legend_at_the_bottom_stands_above_the_note() -> None:
    figure = go.Figure(layout={"height": 182, "legend": {"yref": "container", "y": 0}})
    for words in ("note", "note", "another note"):  # sessions share figures
        finished = files.annotated(figure, words, 1.0)
        assert finished.height == 200
        assert finished.to_dict()["layout"]["title"]["text"] == words
        assert finished.to_dict()["layout"]["legend"]["y"] == pytest.approx(18 / 200)


def test_sessions_share_a_finished_figure() -> None:
    figure = go.Figure(layout={"height": 182})
    assert files.annotated(figure, "note", 1.0) is files.annotated(figure, "note", 1.0)
    assert files.annotated(figure, "note", 1.5).height == 300
