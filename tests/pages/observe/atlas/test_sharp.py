from pathlib import Path

import numpy as np

from model.atlas.folder import Sweep, open_sweep
from model.atlas.schema import MARGIN_COLUMNS
from model.atlas.sharpness import sharpness
from pages.common.menu import page_path
from pages.observe.atlas import sharp
from tests.pages.conftest import charts, numbers, said
from tests.pages.observe.atlas.conftest import DOMAINS, LAYERS, OpenApp, counts
from tests.sweeps import write_sweep

PAGE = page_path("atlas")


def with_margins(folder: Path, domains: list[str] = DOMAINS) -> Path:
    """Write a sweep of which a quarter of L2's margins is near: in bin 9 of 16, and the others in the last."""
    plain = open_sweep(write_sweep(folder, counts(), 2, LAYERS, domains))
    near = np.where(plain.cells["layer"] == 2, plain.cells["c"] // 4, 0)
    margins = {name: np.zeros(len(plain.cells), int) for name in MARGIN_COLUMNS}
    margins["m09"], margins["m15"] = near, plain.cells["c"] - near
    cells = plain.cells.assign(**margins)
    return write_sweep(folder, counts(), 2, LAYERS, domains, counts=cells, strata=plain.strata)


def test_near_ties_by_layer_and_label(show_at: OpenApp, shelf: Path) -> None:
    with_margins(shelf / "mini")
    app = show_at(part="How sharp")
    shares = numbers(charts(app)[1]["data"][0]["z"])
    assert np.allclose(shares, [[0, 0], [0.25, 0.25]], atol=2e-3)
    assert charts(app)[1]["layout"]["xaxis"]["ticktext"] == ["code", "maths"]
    assert "**The router decides least clearly in L2: 2" in said(app)
    assert app.dataframe[-1].value["layer"].tolist() == ["L1", "L2"]


def test_labels_of_few_documents_are_blank(show_at: OpenApp, shelf: Path) -> None:
    with_margins(shelf / "mini", ["rare"] * 19 + DOMAINS[19:])
    assert np.isnan(numbers(charts(show_at(part="How sharp"))[1]["data"][0]["z"]).astype(float)[:, 2]).all()


def test_sweep_without_margins_says_so(show_at: OpenApp, sweep: Sweep) -> None:
    app = show_at(part="How sharp")
    assert "This sweep holds no margins" in said(app)
    assert "entropy" in app.dataframe[-1].value
    assert "near ties" not in sharp.by_layer(sharpness(sweep))
