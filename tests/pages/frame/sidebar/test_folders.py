"""The list of installed models."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.common import models
from pages.frame.sidebar.described import Description
from pages.frame.sidebar.folders import table


def test_the_list_names_every_folder_and_why_one_cannot_run(
    monkeypatch: pytest.MonkeyPatch, open_app: Callable[..., AppTest], tmp_path: Path
) -> None:
    mini = models.PRESETS / "mini-v3"
    monkeypatch.setattr(models, "available", lambda: {"mini-v3": mini, "org/broken": tmp_path / "broken"})
    app = open_app()
    app.button(key="folders").click().run()
    assert not app.exception
    (rows,) = (frame.value for frame in app.dataframe if "does not record" in frame.value)
    assert rows["model"].tolist() == ["mini-v3", "org/broken"]
    first = rows.iloc[0]
    assert (first["family"], first["engine"], first["k"]) == ("deepseek_v3", "own network", 4)
    assert first["active"] < first["parameters"]
    assert "drafts" in first["records"]
    assert "no indexer" in first["does not record"]
    assert any("no indexer" in caption.value and "*mini" in caption.value for caption in app.caption)
    refused = [caption.value for caption in app.caption if "cannot be run" in caption.value]
    assert len(refused) == 1
    assert "'broken' is not a folder" in refused[0]
    assert str(tmp_path) not in refused[0]


def test_a_table_without_models_has_no_rows() -> None:
    assert table({}).empty
    assert table({"a": Description(family="x", missing=("why",))})["does not record"].tolist() == ["why"]
