from pathlib import Path

import numpy as np
import pandas as pd

from model.atlas.folder import open_sweep
from model.atlas.position import position_share
from model.trace.documents import ratio_error, t_quantile
from tests.sweeps import write_sweep

COLUMNS = ["layer", "expert", "bucket", "c", "c2", "cn", "n", "n2"]


def test_share_by_position_has_the_interval_of_the_ratio_of_its_own_tokens(tmp_path: Path) -> None:
    """25 documents of 1 to 3 tokens; at position 0 E1 takes every second document, positions 2 and 3 reach a third."""
    tokens = np.array([1 + document % 3 for document in range(25)])
    counts = np.stack([tokens, np.zeros(25, int)], axis=1)[:, None]
    first = np.arange(25) % 2
    late = np.count_nonzero(tokens > 2)
    rows = [(5, 1, 0, 12, 12, 12, 25, 25), (5, 0, 0, 13, 13, 13, 25, 25), (5, 0, 2, late, late, late, late, late)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    found = position_share(open_sweep(write_sweep(tmp_path, counts, layers=[5], positions=table)))
    assert found is not None
    assert found["first"].values.tolist() == [0, 1, 2]
    assert found["documents"].values.tolist() == [25, 16, 8]
    at = found.sel(moe_layer=5, expert=1)
    reach = t_quantile(0.975, 11) * ratio_error(first, np.ones(25))  # its 12 choices are of 12 documents
    expected = [12 / 25, 12 / 25 - reach, 12 / 25 + reach]
    assert np.allclose([at["share"][0], at["low"][0], at["high"][0]], expected, rtol=1e-3)
    assert np.isnan(found["share"].values[1:]).all()  # 16 and 8 documents are too few


def test_sweep_without_positions_has_none(tmp_path: Path) -> None:
    assert position_share(open_sweep(write_sweep(tmp_path, np.full((2, 1, 2), 3)))) is None
