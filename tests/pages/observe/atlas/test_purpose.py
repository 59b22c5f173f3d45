from pathlib import Path

import numpy as np

from model.atlas.folder import Sweep, open_sweep
from pages.common.menu import page_path
from pages.observe.atlas import purpose
from pages.observe.atlas.choices import BY_LABEL
from tests.pages.conftest import charts, numbers, said
from tests.pages.observe.atlas.conftest import DOMAINS, LAYERS, OpenApp, counts
from tests.sweeps import write_sweep

PAGE = page_path("atlas")


def test_planted_specialist_alone_has_a_colour(show: OpenApp, sweep: Sweep) -> None:
    app = show()
    grey, coloured, points = charts(app)[0]["data"]
    assert np.argwhere(np.isfinite(numbers(coloured["z"]).astype(float))).tolist() == [[1, 2]]
    assert np.count_nonzero(np.isfinite(numbers(grey["z"]).astype(float))) == 7
    assert points["text"][6].startswith("L2E2, code<br>")
    assert "survives; q = " in points["text"][6]
    assert "n = 60 documents of this domain" in points["text"][6]
    words = said(app)
    assert "**1 of 8 experts are specialists for a domain**" in words
    assert "Most experts: code (1). n = 120 documents; derived." in words
    assert "- **code** (n = 60): L2E2 × " in words


def test_rows_can_be_labels_of_a_layer(show_at: OpenApp, sweep: Sweep) -> None:
    app = show_at(rows=BY_LABEL, layer="2")
    _, coloured, points = charts(app)[0]["data"]
    assert charts(app)[0]["layout"]["yaxis"]["ticktext"] == ["code", "maths"]
    called = np.argwhere(np.isfinite(numbers(coloured["z"]).astype(float)))
    assert called.tolist() == [[0, 2], [1, 2]]  # maths avoids what code prefers
    assert points["text"][4].startswith("L2E0, maths<br>")


def test_chosen_label_shows_what_its_documents_avoid(show_at: OpenApp, sweep: Sweep) -> None:
    app = show_at(label="maths")
    coloured = numbers(charts(app)[0]["data"][1]["z"]).astype(float)
    assert coloured[1, 2] < -1
    assert np.count_nonzero(np.isfinite(coloured)) == 1


def test_sentence_has_the_labels_that_survive(sweep: Sweep) -> None:
    assert purpose.sentence(sweep, "domain", 1, 0).startswith("It is no specialist for a domain")
    words = purpose.sentence(sweep, "domain", 2, 2)
    assert words.startswith("Lifts that survive the tests: **code** ")
    assert "as often as elsewhere (95 %: " in words
    assert "n = 60; **maths** 0." in words


def test_labels_of_few_documents_are_named(tmp_path: Path) -> None:
    few = ["rare"] * 19 + DOMAINS[19:]
    words = purpose.verdict(open_sweep(write_sweep(tmp_path, counts(), 2, LAYERS, few)), "domain")
    assert "Not judged, because fewer than 20 documents have the label: rare." in words


def test_labels_of_under_60_documents_have_a_warning(tmp_path: Path) -> None:
    few = [domain if number < 100 else None for number, domain in enumerate(DOMAINS)]
    words = purpose.verdict(open_sweep(write_sweep(tmp_path, counts(), 2, LAYERS, few)), "domain")
    assert "Fewer than 60 documents, so intervals are somewhat too narrow: code. n = 100 documents" in words
