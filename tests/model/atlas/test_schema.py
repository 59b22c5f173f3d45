import numpy as np

from model.atlas.schema import MARGIN_COLUMNS, TABLES, bucket_of, margin_bin


def test_buckets_of_positions_double() -> None:
    assert bucket_of(np.array([0, 1, 2, 3, 4, 7, 8, 1023, 1024])).tolist() == [0, 1, 2, 2, 3, 3, 4, 10, 11]


def test_margin_bins_are_half_decades() -> None:
    assert margin_bin(np.array([1e-8, 3.1e-8, 3.2e-8, 0.099, 0.11, 0.32, 2.0])).tolist() == [0, 0, 1, 13, 14, 15, 15]
    assert set(MARGIN_COLUMNS) < set(TABLES["counts"].names)
