"""Compute intervals of ratios over a corpus.

The sampling unit is the document, because the tokens of one document are not independent.

A ratio is a sum over documents divided by another sum over documents, for example an expert's tokens by all tokens, or
bits by bytes.

Source: ratio estimator and its linearised variance, Cochran, Sampling Techniques (1977), chapter 6.

    >>> ratio_error(np.array([4, 0, 2]), np.array([4, 4, 4])).round(6).item()
    0.288675
    >>> ratio_error(np.array([6, 1, 1, 4]), np.array([10, 5, 5, 20])).round(6).item()
    0.106066
"""

import math
import statistics
from typing import Any

import numpy as np

FEWEST = 20  # documents below which no interval is given: it would be too narrow
FEW = 60  # documents below which an interval of nominally 95 % contains the truth in only 89 to 93 % of cases


def ratio_error(parts_D: np.ndarray, sizes_D: np.ndarray) -> np.ndarray:
    """Return the standard error of `parts_D.sum(0) / sizes_D.sum()` over documents, [...].

    Args:
        parts_D: numerators, [document, ...].
        sizes_D: denominators, [document].
    """
    parts, sizes = np.asarray(parts_D, float), np.asarray(sizes_D, float)
    sizes = sizes.reshape(-1, *[1] * (parts.ndim - 1))
    residuals = parts - sizes * (parts.sum(0) / sizes.sum())
    return np.sqrt(len(parts) / (len(parts) - 1) * (residuals**2).sum(0)) / sizes.sum()


def ratio_interval(parts_D: np.ndarray, sizes_D: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of a ratio over documents, by Student's t; NaN below `FEWEST` documents.

    Args:
        parts_D: numerators, [document, ...].
        sizes_D: denominators, [document].
        confidence: probability that the interval contains the ratio.
    """
    parts, sizes = np.asarray(parts_D, float), np.asarray(sizes_D, float)
    ratio = parts.sum(0) / sizes.sum()
    if len(parts) < FEWEST:
        return np.full(ratio.shape, np.nan), np.full(ratio.shape, np.nan)
    reach = t_quantile((1 + confidence) / 2, len(parts) - 1) * ratio_error(parts, sizes)
    return ratio - reach, ratio + reach


def paired_difference(
    parts_D: np.ndarray, sizes_D: np.ndarray, other_parts_D: np.ndarray, other_sizes_D: np.ndarray
) -> tuple[float, float, float]:
    """Return the difference of two ratios over the same documents, and its 95 % interval.

    The interval is that of the linearised difference, by Student's t. It is NaN below `FEWEST` documents, and all three
    are NaN if a ratio is unknown.

    >>> paired_difference(np.array([4, 0, 2]), np.array([4, 4, 4]), np.array([2, 0, 1]), np.array([4, 4, 4]))[0]
    0.25
    """
    residuals_D, ratios = np.zeros(len(parts_D)), []
    for parts, sizes in ((parts_D, sizes_D), (other_parts_D, other_sizes_D)):
        parts, sizes = np.asarray(parts, float), np.asarray(sizes, float)
        if not sizes.sum():
            return math.nan, math.nan, math.nan
        ratios.append(float(parts.sum() / sizes.sum()))
        residuals_D = (parts - sizes * ratios[-1]) / sizes.sum() - residuals_D
    number, difference = len(residuals_D), ratios[0] - ratios[1]
    if number < FEWEST:
        return difference, math.nan, math.nan
    error = math.sqrt(number / (number - 1) * float((residuals_D**2).sum()))
    reach = t_quantile(0.975, number - 1) * error
    return difference, difference - reach, difference + reach


def t_quantile(probability: float, degrees: Any) -> Any:
    """Return a quantile of Student's t, exact to 1e-4 from 19 degrees of freedom on (Fisher's expansion).

    Args:
        probability: probability of a value below the quantile.
        degrees: degrees of freedom, a number or an array.

    >>> round(t_quantile(0.975, 19), 3)
    2.093
    """
    z = statistics.NormalDist().inv_cdf(probability)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def two_sided_p(statistic: np.ndarray, degrees: np.ndarray | float = math.inf) -> np.ndarray:
    """Return the probability that Student's t is as far from 0 as `statistic`, or farther; NaN stays NaN.

    The relative error is below 1e-3 from 19 degrees of freedom on, for values within 30 of 0. `math.inf` degrees, for
    all values, give the normal distribution.

    Source: Hill, Algorithm 395 (1970), the normal deviate of a value of t.

    >>> [f"{p:.5}" for p in two_sided_p(np.array([1.239939, 4.802265]))]
    ['0.215', '1.5688e-06']
    """
    values, degrees = np.broadcast_arrays(np.abs(np.asarray(statistic, float)), np.asarray(degrees, float))
    if not np.isinf(degrees).all():
        values = _normal_deviate(values, degrees)
    return np.array([math.erfc(value) for value in (values / math.sqrt(2)).ravel().tolist()]).reshape(values.shape)


def _normal_deviate(values: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Return the values of a normal variable that are exceeded as often as these values of t."""
    a = degrees - 0.5
    b = 48 * a**2
    square = a * np.log1p(values**2 / degrees)
    z = np.sqrt(square)
    last = ((((-0.4 * square - 3.3) * square - 24) * square - 85.5) / (0.8 * square**2 + 100 + b) + square + 3) / b + 1
    return last * z
