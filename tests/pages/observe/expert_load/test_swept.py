"""Devices judged by a sweep: which sweeps are offered, and what is said of the half that was held out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.atlas import library
from model.atlas.folder import open_sweep
from model.atlas.placement.judge import by_layer, by_windows, means
from model.atlas.placement.loads import of_sweep
from model.atlas.placement.plan import Layout, Plan, plan
from pages.common.menu import page_path
from pages.observe.expert_load import swept
from pages.observe.expert_load.devices import THIS_RUN
from pages.observe.expert_load.tabs import DEVICES
from tests.pages.conftest import charts, said
from tests.pages.observe.expert_load.test_devices import loaded
from tests.sweeps import write_sweep

OpenApp = Callable[..., AppTest]
PAGE = page_path("expert_load")
CODE = [0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(library, "SHIPPED", tmp_path)
    monkeypatch.delenv(library.VARIABLE, raising=False)
    return tmp_path


def planted(folder: Path, number: int = 120, layers: int = 2) -> Path:
    """Write documents of code, and of prose, which takes the other experts."""
    rng = np.random.default_rng(1)
    parts = [rng.multinomial(200, shares, size=(number // 2, layers)) for shares in (CODE, CODE[::-1])]
    return write_sweep(folder, np.concatenate(parts), domains=["code"] * (number // 2) + ["prose"] * (number // 2))


def made(shelf: Path) -> Plan:
    return plan(of_sweep(open_sweep(planted(shelf / "corpus"))), Layout(4, 4))


def test_only_sweeps_of_the_models_shape_are_offered(shelf: Path) -> None:
    planted(shelf / "corpus")
    planted(shelf / "deeper", layers=3)
    (shelf / "broken").mkdir()
    (shelf / "broken" / "manifest.json").write_text("{")
    assert swept.names(loaded([[1] * 8, [1] * 8])) == ["corpus"]
    assert swept.names(loaded([[1] * 4, [1] * 4])) == []


def test_held_out_stands_beside_the_fit(shelf: Path) -> None:
    judged = made(shelf)
    layers, windows = by_layer(judged), by_windows(judged)
    mean = means(layers)
    words = swept.verdict(open_sweep(shelf / "corpus"), judged, layers, windows)
    assert f"EPLB's placement has a balancedness of {mean['held_out']:.3g}" in words
    assert f"Experts placed by number have {mean['numbered']:.3g}" in words
    assert f"EPLB has {mean['fit']:.3g}, which flatters" in words
    assert "120 documents, 24,000 tokens; 4 devices, 4 redundant experts" in words
    assert f"For 16 documents at a time it is {windows[3].placed.mean:.3g}." in words
    assert " The domain that it suits worst is " in words
    assert ": served alone, 0." in words
    table = swept.layers_table(layers)
    assert table["layer"].tolist() == ["L1", "L2"]
    assert np.mean(table["placed, held out"].to_numpy()) == pytest.approx(mean["held_out"])
    table = swept.windows_table(windows)
    assert table["windows"].tolist() == [20, 60, 15, 3]
    assert " to " in table["placed"][0]
    assert " to " not in table["placed"][3]


def test_a_sweep_takes_the_place_of_the_run(show_at: OpenApp, shelf: Path) -> None:
    planted(shelf / "corpus")
    planted(shelf / "few", number=40)
    app = show_at(view=DEVICES)
    assert app.selectbox(key="loads").options == [THIS_RUN, "corpus", "few"]
    app.selectbox(key="loads").set_value("corpus").run()
    assert not app.exception
    assert "On documents that it was not fitted to" in said(app)
    assert "placed, held out" in app.dataframe[1].value.columns
    assert len(charts(app)) == 2
    app.selectbox(key="loads").set_value("few").run()
    assert "The sweep has 40 documents; a placement needs at least 60" in app.info[0].value


def test_without_a_sweep_nothing_is_offered(show_at: OpenApp, shelf: Path) -> None:
    assert shelf.is_dir()
    assert "loads" not in [widget.key for widget in show_at(view=DEVICES).selectbox]
