import re
from pathlib import Path

import numpy as np

from model.atlas.folder import Sweep, open_sweep
from pages.common.menu import page_path
from pages.observe.atlas import card
from tests.pages.conftest import charts, numbers, said
from tests.pages.observe.atlas.conftest import OpenApp
from tests.sweeps import write_sweep

PAGE = page_path("atlas")


def test_card_has_load_labels_positions_tokens_and_texts(show_at: OpenApp, sweep: Sweep) -> None:
    app = show_at(layer="2", expert="2")
    words = said(app)
    assert re.search(r"\*\*L2E2\*\* takes 0\.\d+ of the layer's choices \(95 %: 0", words)
    assert "of n = 120 documents choose it" in words
    labels, positions = charts(app)[1:]
    assert labels["data"][0]["y"] == ["code (n = 60)", "maths (n = 60)"]
    assert positions["layout"]["xaxis"]["ticktext"] == ["0", "1"]
    assert "**Tokens** that chose L2E2" in words
    assert "**Texts** with a token that chose L2E2" in words
    app.button(key="atlas-texts-open").click().run()
    assert app.text_area(key="prompt").value == "def f():\n    return 1"


def test_position_without_a_choice_has_no_share(show_at: OpenApp, sweep: Sweep) -> None:
    first = charts(show_at(layer="1", expert="0"))[-1]["data"][0]
    assert numbers(first["y"]).tolist() == [0.5, 0.5]
    other = charts(show_at(layer="1", expert="3"))[-1]["data"][0]
    assert numbers(other["y"]).tolist() == [0, 0]


def test_expert_without_a_token_is_dead_only_if_the_corpus_is_large(tmp_path: Path) -> None:
    counts = np.zeros((400, 1, 8), int)
    counts[:, 0, :7] = 3
    large = open_sweep(write_sweep(tmp_path / "large", counts))
    assert card.load(large, 1, 7) == "**L1E7 is dead in this corpus**: none of n = 400 documents choose it."
    small = open_sweep(write_sweep(tmp_path / "small", counts[:30]))
    assert card.load(small, 1, 7).startswith("**L1E7** takes 0 of the layer's choices, 0 times a fair share")
