"""Loads of sweeps and of imported counts, and what of a mix is refused."""

from pathlib import Path

import numpy as np
import pytest

from model.atlas.errors import AtlasError
from model.atlas.folder import open_sweep
from model.atlas.placement.loads import DOCUMENTS, WINDOWS, Loads, check_mix, of_counts, of_sweep, own_mix, parse_mix
from model.trace.imports.count_formats import read_counts
from tests import engines
from tests.engines import CONFIG, TINY
from tests.sweeps import write_sweep

RNG = np.random.default_rng(0)


def counts_of(number: int) -> np.ndarray:
    """Two layers of four experts, 10 selections in each layer of a document."""
    return RNG.multinomial(10, [0.4, 0.3, 0.2, 0.1], size=(number, 2))


def test_documents_of_a_sweep(tmp_path: Path) -> None:
    counts = counts_of(60)
    config = {"num_hidden_layers": 4, "n_group": 2}
    model = {"name": "m", "config": config, "layers": [2, 3], "num_experts": 4, "top_k": 1}
    sweep = open_sweep(
        write_sweep(tmp_path, counts, layers=[2, 3], domains=["code"] * 30 + [None] * 30, manifest={"model": model})
    )
    loads = of_sweep(sweep)
    assert np.array_equal(loads.counts_ULE, counts)
    assert (loads.layers, loads.unit, loads.num_layers, loads.num_groups) == ((2, 3), DOCUMENTS, 4, 2)
    assert loads.extent == "60 documents, 600 tokens"
    assert loads.labels_U is not None
    assert loads.labels_U.tolist() == ["code"] * 30 + [""] * 30
    with pytest.raises(AtlasError, match="no document of the sweep has a language"):
        of_sweep(sweep, "language")


def test_too_few_documents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="the sweep has 59 documents; a placement needs at least 60"):
        of_sweep(open_sweep(write_sweep(tmp_path, counts_of(59))))


def test_documents_without_tokens_are_left_out(tmp_path: Path) -> None:
    """No load is even, so such a document would be judged as the best of all."""
    counts = counts_of(62)
    counts[[3, 7]] = 0
    loads = of_sweep(open_sweep(write_sweep(tmp_path, counts, domains=["code"] * 62)))
    assert np.array_equal(loads.counts_ULE, np.delete(counts, [3, 7], axis=0))
    assert loads.labels_U is not None
    assert len(loads.labels_U) == 60


def test_windows_of_imported_counts() -> None:
    counts = RNG.integers(1, 50, (4, 16))
    loads = of_counts(read_counts(engines.usage_history(counts), TINY))
    assert np.array_equal(loads.counts_ULE, counts[None])
    assert (loads.layers, loads.unit, loads.num_layers) == ((1, 2, 3, 4), WINDOWS, CONFIG["num_hidden_layers"])
    assert "spread unknown" in loads.extent
    assert loads.labels_U is None


def test_weights_of_a_mix() -> None:
    assert parse_mix("code=3,maths=1") == {"code": 0.75, "maths": 0.25}
    assert parse_mix("a=b=0.5, c=1.5") == {"a=b": 0.25, "c": 0.75}
    for text, message in (
        ("code", "'code' of the mix 'code' has no weight"),
        ("code=", "has no weight"),
        ("code=0,maths=1", "'code=0' of the mix"),
        ("code=nan", "has no weight"),
        ("code=inf", "has no weight"),
        ("code=1,code=2", "names code twice"),
        ("", "'' of the mix"),
    ):
        with pytest.raises(AtlasError, match=message):
            parse_mix(text)


def test_own_mix_is_in_shares_of_tokens() -> None:
    """By hand: 10 + 10 of 50 selections have no label, 30 are code."""
    counts = np.array([[[10, 0]], [[0, 10]], [[15, 15]]])
    loads = Loads(counts, (1,), DOCUMENTS, 2, 1, np.array(["", "", "code"]), "domain")
    assert own_mix(loads) == {"code": 0.6, "no label": 0.4}
    assert own_mix(Loads(counts, (1,), DOCUMENTS, 2, 1, np.array(["", "", ""]))) == {}
    assert own_mix(Loads(counts, (1,), WINDOWS, 2, 1)) == {}


def test_labels_of_a_mix_need_documents() -> None:
    labels = np.array(["code"] * 40 + ["maths"] * 25 + ["poems"] * 19)
    loads = Loads(counts_of(84), (1, 2), DOCUMENTS, 3, 1, labels, "domain")
    check_mix(loads, {"code": 0.5, "maths": 0.5})
    for mix, message in (
        (
            {"poems": 1.0},
            "19 documents have the domain 'poems', and a mix needs at least 20 of each; the sweep has code",
        ),
        ({"x": 1.0}, "0 documents have the domain 'x'"),
        ({"code": 1.0}, "40 documents have a label of the mix; a placement needs at least 60"),
    ):
        with pytest.raises(AtlasError, match=message):
            check_mix(loads, mix)
