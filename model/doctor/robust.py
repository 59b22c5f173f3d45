"""Outliers told by median and median absolute deviation, which a few broken values cannot move.

>>> deviations(np.array([1.0, 1.1, 0.9, 1.0, 5.0]), floor=0.1).round(1).tolist()
[0.0, 0.7, -0.7, 0.0, 27.0]
"""

import numpy as np

_OF_A_GAUSSIAN = 1.4826  # standard deviation over median absolute deviation


def deviations(values: np.ndarray, floor: float) -> np.ndarray:
    """How far each value lies from the median, in robust standard deviations, of the same shape.

    Args:
        values: along the last axis.
        floor: the smallest standard deviation to believe in: values that are all but equal have no outliers.
    """
    apart = values - np.median(values, axis=-1, keepdims=True)
    spread = _OF_A_GAUSSIAN * np.median(np.abs(apart), axis=-1, keepdims=True)
    return apart / np.maximum(spread, floor)


def outlying(logs: np.ndarray, ratio: float, deviation: float, floor: float) -> np.ndarray:
    """True for logarithms that are far from their median both as a ratio and against the others' spread.

    Args:
        logs: natural logarithms, along the last axis.
        ratio: the smallest factor, up or down, that counts.
        deviation: the fewest robust standard deviations that count.
        floor: see `deviations`; in units of the logarithm.
    """
    apart = logs - np.median(logs, axis=-1, keepdims=True)
    return (np.abs(apart) >= np.log(ratio)) & (np.abs(deviations(logs, floor)) >= deviation)
