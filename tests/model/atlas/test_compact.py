from pathlib import Path

import numpy as np
import pandas as pd

from model.atlas.compact import compact
from model.atlas.folder import Sweep, open_sweep
from model.atlas.lift import specialists
from model.atlas.share import share
from tests.sweeps import sums, write_sweep

TOKENS = ["layer", "expert", "token_id", "text", "c", "docs", "total"]


def swept(folder: Path) -> Sweep:
    """Return a sweep of 60 documents, of which half of each expert's selections are digits."""
    counts = np.random.default_rng(0).multinomial(24, [0.5, 0.3, 0.2], (60, 2))
    labels = {"domain": ["code", "maths"] * 30, "language": ["en"] * 60, "source": ["a", "b", "c"] * 20}
    strata, cells = sums(pd.DataFrame(labels, dtype=object), counts, [1, 2])
    digits, of_digits = sums(pd.DataFrame(labels, dtype=object), counts // 2, [1, 2])
    more = [frame.assign(token_class="digit", stratum=frame["stratum"] + len(strata)) for frame in (digits, of_digits)]
    tokens = pd.DataFrame([(1, 0, number, "x", number, 1, 9) for number in range(1, 9)], columns=TOKENS)
    return open_sweep(
        write_sweep(
            folder, counts, domains=labels["domain"], languages=labels["language"], sources=labels["source"],
            strata=pd.concat([strata, more[0]]), counts=pd.concat([cells, more[1]]), tokens=tokens,
        )
    )  # fmt: skip


def test_small_copy_gives_the_same_lifts_and_shares(tmp_path: Path) -> None:
    sweep = swept(tmp_path / "sweep")
    compact(sweep, tmp_path / "small", num_tokens=3)
    small = open_sweep(tmp_path / "small")
    assert specialists(small, "domain").identical(specialists(sweep, "domain"))
    for token_class in ("all", "digit"):
        assert share(small, None, token_class).identical(share(sweep, None, token_class))
    assert np.array_equal(small.counts_DLE, sweep.counts_DLE)
    assert (len(sweep.strata), len(small.strata)) == (12, 7)
    assert small.tokens is not None
    assert small.tokens["c"].tolist() == [8, 7, 6]
    assert small.manifest.hash == sweep.manifest.hash
    assert small.manifest.bounds["tokens_per_expert"] == 3
