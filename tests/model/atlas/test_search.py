from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model.atlas.folder import Sweep, open_sweep
from model.atlas.search import examples_of, search, tokens_of
from tests.sweeps import write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    tokens = pd.DataFrame(
        [(1, 0, 5, " wolf", 3, 2, 4), (1, 2, 6, "Wolfgang", 9, 4, 9),
         (3, 0, 5, " Wolf", 4, 2, 4), (3, 1, 7, " a", 1, 1, 8)],
        columns=["layer", "expert", "token_id", "text", "c", "docs", "total"],
    )  # fmt: skip
    examples = pd.DataFrame(
        [(1, 0, 0.3, "00", 4, "There was a ", "wolf", " who"), (1, 2, 0.9, "01", 2, "The ", "lamb", " saw the wolf")],
        columns=["layer", "expert", "weight", "doc_id", "position", "before", "token", "after"],
    )
    folder = write_sweep(
        tmp_path, np.full((2, 2, 3), 2), layers=[1, 3], domains=["Wolf tales", "code"], languages=["en", None],
        tokens=tokens, examples=examples,
    )  # fmt: skip
    return open_sweep(folder)


def test_finds_a_word_among_labels_tokens_and_examples_whole_words_first(sweep: Sweep) -> None:
    matches = search(sweep, " WOLF ")
    assert matches.labels == (("domain", "Wolf tales"),)
    assert matches.tokens[["layer", "expert", "text", "share"]].to_numpy().tolist() == [
        [3, 0, " Wolf", 1.0],
        [1, 0, " wolf", 0.75],
        [1, 2, "Wolfgang", 1.0],
    ]
    assert matches.examples["expert"].tolist() == [2, 0]
    assert not matches.empty


@pytest.mark.parametrize(
    ("query", "experts"),
    [("L3E1", ((3, 1),)), ("l1 e2", ((1, 2),)), ("e0", ((1, 0), (3, 0))), ("L2E1", ()), ("E3", ())],
)
def test_names_experts(sweep: Sweep, query: str, experts: tuple[tuple[int, int], ...]) -> None:
    matches = search(sweep, query)
    assert matches.experts == experts
    assert matches.empty == (not experts)


@pytest.mark.parametrize("query", ["", "  ", "zebra", "wolf("])
def test_finds_nothing(sweep: Sweep, query: str) -> None:
    assert search(sweep, query).empty


def test_sweep_without_tokens_and_examples_still_has_labels(tmp_path: Path) -> None:
    sweep = open_sweep(write_sweep(tmp_path, np.full((1, 1, 2), 2), domains=["code"]))
    assert search(sweep, "od").labels == (("domain", "code"),)
    assert search(sweep, "wolf").empty
    assert tokens_of(sweep, 1, 0) is None
    assert examples_of(sweep, 1, 0) is None


def test_tokens_and_examples_of_an_expert(sweep: Sweep) -> None:
    tokens, examples = tokens_of(sweep, 1, 0), examples_of(sweep, 1, 2)
    assert tokens is not None
    assert tokens[["text", "share"]].to_numpy().tolist() == [[" wolf", 0.75]]
    assert examples is not None
    assert examples["token"].tolist() == ["lamb"]
