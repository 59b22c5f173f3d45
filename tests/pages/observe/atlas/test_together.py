import numpy as np

from model.atlas.folder import Sweep
from pages.common.menu import page_path
from pages.observe.atlas import together
from tests.pages.conftest import charts, numbers, said
from tests.pages.observe.atlas.conftest import OpenApp

PAGE = page_path("atlas")


def test_pair_that_always_meets_has_a_colour(show_at: OpenApp, sweep: Sweep) -> None:
    app = show_at(part="Experts together", layer="1")
    pairs, following = charts(app)[1:]
    called = np.argwhere(np.isfinite(numbers(pairs["data"][1]["z"]).astype(float)))
    assert called.tolist() == [[0, 1], [1, 0]]
    assert "**In L1, 1 of 6 pairs of experts" in said(app)
    assert "Most: L1E0 with L1E1, " in said(app)
    assert "**One cluster of experts that are chosen together**: L1E0, L1E1 (derived)." in said(app)
    assert not np.isfinite(numbers(following["data"][1]["z"]).astype(float)).any()
    assert following["layout"]["yaxis"]["title"]["text"] == "expert, L1"


def test_clusters_are_listed_the_first_number_first() -> None:
    words = together.clustered([1, 0, -1, 0, 1, -1], 3)
    assert words == "**2 clusters of experts that are chosen together**: L3E1, L3E3; L3E0, L3E4 (derived)."
    assert together.clustered([-1, -1], 3) == ""


def test_last_layer_has_no_next(show_at: OpenApp, sweep: Sweep) -> None:
    app = show_at(part="Experts together", layer="2")
    assert len(charts(app)) == 2
