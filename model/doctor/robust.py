"""Finds outliers by the median and the median absolute deviation, which a few broken values do not change.

>>> deviations(np.array([1.0, 1.1, 0.9, 1.0, 5.0]), floor=0.1).round(1).tolist()
[0.0, 0.7, -0.7, 0.0, 27.0]
"""

from collections.abc import Iterator

import numpy as np

MOST_ROWS, MOST_PAIRS = 4_096, 1_000  # of `near_pairs`; the largest published layer has 384 experts
_BLOCK = 512  # rows that are compared with all others at once
_OF_A_GAUSSIAN = 1.4826  # standard deviation over median absolute deviation


def deviations(values: np.ndarray, floor: float) -> np.ndarray:
    """Return the distance of each value from the median, in robust standard deviations, in the same shape.

    Args:
        values: values to compare along the last axis.
        floor: lower bound on the robust standard deviation, so that nearly equal values have no outliers.
    """
    apart = values - np.median(values, axis=-1, keepdims=True)
    spread = _OF_A_GAUSSIAN * np.median(np.abs(apart), axis=-1, keepdims=True)
    return apart / np.maximum(spread, floor)


def outlying(logs: np.ndarray, ratio: float, deviation: float, floor: float) -> np.ndarray:
    """Return a mask of the values that are far from the median, both as a ratio and relative to the spread.

    Args:
        logs: natural logarithms of the values, compared along the last axis.
        ratio: smallest ratio to the median, or of the median to the value, that counts as far.
        deviation: smallest distance from the median, in robust standard deviations, that counts as far.
        floor: lower bound on the robust standard deviation of the logarithms.
    """
    apart = logs - np.median(logs, axis=-1, keepdims=True)
    return (np.abs(apart) >= np.log(ratio)) & (np.abs(deviations(logs, floor)) >= deviation)


def near_pairs(rows: np.ndarray, least: float) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs of rows with a cosine of at least `least`: the first row, the second and the cosine.

    At most the first `MOST_ROWS` rows are compared and `MOST_PAIRS` pairs yielded, since a damaged file may hold any
    number of equal rows.

    Args:
        rows: [row, width], finite and not zero.
        least: smallest cosine that counts.
    """
    unit = rows[:MOST_ROWS] / np.linalg.norm(rows[:MOST_ROWS], axis=1, keepdims=True)
    left = MOST_PAIRS
    for start in range(0, len(unit), _BLOCK):
        cosines = np.triu(unit[start : start + _BLOCK] @ unit[start:].T, 1)
        for first, second in np.argwhere(cosines >= least)[:left].tolist():
            left -= 1
            yield start + first, start + second, float(cosines[first, second])
