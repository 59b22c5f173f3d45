"""Suggest bits per weight for each layer, and as an analysis for each expert.

The suggestion minimises the expected squared error that rounding adds to the residual stream, at a mean number of bits.
Rounding an expert's weights to b bits changes its output by a share of its norm that halves with each bit, so the error
of a layer or expert is its sum of (g |f|)^2 times 4^-b. The assumption that an error harms by its size alone is not
checked here: routing reacts to errors in a way of its own.

Source: bit allocation for independent sources, Cover and Thomas, Elements of Information Theory, section 10.3.3.
"""

import numpy as np

WIDTHS = (2, 3, 4, 5, 6, 8)
NOTE = (
    "No serving path takes bits per expert: a GGUF file has one type per fused expert tensor, and vLLM reads the "
    "scheme of expert 0 for the whole layer. So bits per layer are a plan, and bits per expert are an analysis. "
    "Neither was checked by running the model."
)


def allocate(errors_N: np.ndarray, mean: float, widths: tuple[int, ...] = WIDTHS) -> np.ndarray:
    """Return the bits of each item, int64 [N]: about the least total error at a mean of `mean` bits.

    Args:
        errors_N: error of each item at 0 bits; the error at b bits is 4^-b of it. All items have equally many weights.
        mean: largest mean number of bits, at least the smallest width.
        widths: numbers of bits that an item may have, ascending.
    """
    place_N, budget = np.zeros(len(errors_N), np.int64), mean * len(errors_N)
    steps = np.array(widths)
    left = budget - steps[0] * len(errors_N)
    while True:
        can_N = place_N + 1 < len(steps)
        after_N = np.minimum(place_N + 1, len(steps) - 1)
        cost_N = steps[after_N] - steps[place_N]
        can_N &= cost_N <= left + 1e-9
        if not can_N.any():
            return steps[place_N]
        gain_N = errors_N * (4.0 ** -steps[place_N] - 4.0 ** -steps[after_N]) / np.maximum(cost_N, 1)
        item = int(np.where(can_N, gain_N, -1.0).argmax())
        left -= int(cost_N[item])
        place_N[item] += 1
