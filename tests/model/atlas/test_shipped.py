"""The sweep that comes with the project."""

import hashlib
import re
import time

import numpy as np

from model.atlas import library
from model.atlas.lift import specialists
from model.atlas.strongest import tally
from model.checkpoint.embedded import PRESETS

FOLDER = library.SHIPPED / "mini-v3"


def test_shipped_sweep_is_small_and_opens_at_once() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 3_000_000
    began = time.process_time()
    sweep = library.opened("mini-v3")
    found = specialists(sweep, "domain")
    assert time.process_time() - began < 1  # about 0.1
    assert sweep.layers == (1, 2, 3, 4, 5)
    assert len(sweep.documents) >= 600
    assert tally(found)["code"] >= 10
    called = found["survives"].values
    for name in ("low", "high", "q"):  # every claim has its interval, and its documents
        assert np.isfinite(found[name].values[called]).all()
    assert (found["documents"].values[np.argwhere(called)[:, 0]] >= 20).all()


def test_every_source_has_its_licence() -> None:
    rows = re.findall(r"^\| (.+) \| (\d+) \| [\d,]+ \| (.+) \|$", (library.SHIPPED / "README.md").read_text(), re.M)
    sweep = library.opened("mini-v3")
    assert {name: int(number) for name, number, _ in rows} == sweep.documents.groupby("source").size().to_dict()
    assert sweep.examples is not None
    assert set(sweep.examples["doc_id"]) <= set(sweep.documents["doc_id"])
    assert sweep.examples[["before", "token", "after"]].sum(axis=1).str.len().max() <= 300


def test_shipped_sweep_is_of_the_shipped_model() -> None:
    model = library.opened("mini-v3").manifest.model
    content = (PRESETS / "mini-v3" / "tokenizer.json").read_bytes()
    assert model["tokenizer_sha256"] == hashlib.sha256(content).hexdigest()
    assert model["config"]["n_routed_experts"] == model["num_experts"] == 32
