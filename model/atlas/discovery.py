"""Correct many tests at once, so that at most a stated part of the findings is false.

Source: Benjamini and Hochberg, Controlling the False Discovery Rate (1995), Journal of the Royal Statistical Society B
57, 289-300.
"""

import numpy as np

LEVEL = 0.05  # accepted part of false findings
FLOOR = 1.0  # smallest |log2 ratio| that is called an effect: twice as often, or half as often


def adjusted(p: np.ndarray) -> np.ndarray:
    """Return the adjusted p of each test, in the shape of `p`; NaN is no test, and stays NaN.

    The findings with adjusted p up to q hold at most a part q of false ones, on average.

    >>> adjusted(np.array([0.01, 0.02, np.nan, 0.03, 0.04])).tolist()
    [0.04, 0.04, nan, 0.04, 0.04]
    """
    flat = p.ravel()
    tested = np.flatnonzero(~np.isnan(flat))
    order = tested[np.argsort(flat[tested], kind="stable")]
    scaled = flat[order] * len(order) / np.arange(1, len(order) + 1)
    result = np.full(flat.shape, np.nan)
    result[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return result.reshape(p.shape)
