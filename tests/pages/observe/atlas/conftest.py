"""A sweep with planted specialists, and the Atlas page on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from model.atlas import library
from model.atlas.folder import Sweep, open_sweep
from tests.sweeps import write_sweep

NUM_DOCUMENTS, EXPERTS, LAYERS = 120, 4, (1, 2)
DOMAINS = [("code", "maths")[number % 2] for number in range(NUM_DOCUMENTS)]
OpenApp = Callable[..., AppTest]


def counts() -> np.ndarray:
    """Return selections [document, layer, expert]: L2E2 takes half of the code and an eighth of the rest."""
    chance = np.random.default_rng(0)
    fair, code = np.full(EXPERTS, 1 / EXPERTS), np.array([1, 1, 3, 1]) / 6
    rows = [
        [chance.multinomial(60, fair), chance.multinomial(60, code if domain == "code" else [0.3, 0.3, 0.1, 0.3])]
        for domain in DOMAINS
    ]
    return np.array(rows)


TOKENS = pd.DataFrame(
    [(2, 2, 5, " return", 40, 30, 50), (1, 0, 5, " return", 9, 8, 50), (1, 0, 6, "![x](y)", 2, 1, 2)],
    columns=["layer", "expert", "token_id", "text", "c", "docs", "total"],
)


def examples(doc_ids: list[str]) -> pd.DataFrame:
    rows = [
        (2, 2, 0.9, doc_ids[0], 4, "def f():\n   ", " return", " 1"),
        (1, 0, 0.2, doc_ids[1], 1, "", "One", " wolf"),
    ]
    return pd.DataFrame(rows, columns=["layer", "expert", "weight", "doc_id", "position", "before", "token", "after"])


def pairs() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return pairs in layer 1, of which E0 and E1 alone meet more than forced, and even transitions to layer 2."""
    c, n = counts(), np.full(NUM_DOCUMENTS, 60)

    def row(layer: int, i: int, j: int, a: np.ndarray, of_j: np.ndarray) -> tuple[int, ...]:
        of_i = c[:, layer, i]
        return (LAYERS[layer], i, j, *(int(sum(part)) for part in (a, a**2, a * of_i, a * of_j, a * n, of_i * of_j)))

    within, between = [], []
    for i in range(EXPERTS):
        for j in range(EXPERTS):
            if i < j:
                a = np.minimum(c[:, 0, i], c[:, 0, j]) if (i, j) == (0, 1) else c[:, 0, i] * c[:, 0, j] // 45
                within.append(row(0, i, j, a, c[:, 0, j]))
            between.append(row(0, i, j, c[:, 0, i] * c[:, 1, j] // 30, c[:, 1, j]))
    columns = ["layer", "i", "j", "a", "a2", "a_ci", "a_cj", "a_n", "ci_cj"]
    return pd.DataFrame(within, columns=columns), pd.DataFrame(between, columns=columns).drop(columns="ci_cj")


def positions() -> pd.DataFrame:
    """Return positions of two buckets: each document gives one selection of E0 at position 0 and at position 1."""
    ones, n = NUM_DOCUMENTS, 2 * NUM_DOCUMENTS
    rows = [(layer, 0, bucket, ones, ones, n, n, 2 * n) for layer in LAYERS for bucket in (0, 1)]
    return pd.DataFrame(rows, columns=["layer", "expert", "bucket", "c", "c2", "cn", "n", "n2"])


def planted(folder: Path, labelled: bool = True, **tables: pd.DataFrame) -> Path:
    """Write the sweep into a folder, with or without labels."""
    labels = {
        "domains": DOMAINS if labelled else None,
        "languages": ["en" if number % 3 else "de" for number in range(NUM_DOCUMENTS)] if labelled else None,
        "sources": [f"{domain}-{number % 5}" for number, domain in enumerate(DOMAINS)] if labelled else None,
    }
    return write_sweep(folder, counts(), 2, LAYERS, **labels, **tables)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder for shipped sweeps; the operator allows none."""
    monkeypatch.setattr(library, "SHIPPED", tmp_path / "shipped")
    monkeypatch.delenv(library.VARIABLE, raising=False)
    return tmp_path / "shipped"


@pytest.fixture
def sweep(shelf: Path) -> Sweep:
    """The sweep `mini`, which the page finds."""
    folder = planted(shelf / "mini")
    ids = open_sweep(folder).documents["doc_id"].tolist()
    within, between = pairs()
    tables = {"tokens": TOKENS, "examples": examples(ids), "pairs": within, "transitions": between}
    return open_sweep(planted(folder, positions=positions(), **tables))
