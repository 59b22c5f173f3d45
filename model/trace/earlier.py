"""Find the choices of experts that come after a difference between two traces that is larger than rounding.

The values before the choice of token t in layer l are those of the tokens up to t: gate weights and residual norms in
the layers below l, and log-probabilities. A difference below the tolerance of the less precise dtype is rounding.
"""

import numpy as np

from model.trace import near_ties
from model.trace.comparison import Comparison

# Before the first differing selection, the dtype moves a gate weight by up to 1.4 tolerances, a residual norm by 0.4
# and a log-probability by 0.8 x NATS (`tests/benchmarks/rounding.py`); limits are three times that.
_LOCAL = 4  # tolerances by which a single value may differ; the median of a layer may differ by one
NATS = 2  # nats of log-probability per tolerance


def differs_before(comparison: Comparison) -> np.ndarray:
    """Return a mask of the choices that come after a difference between the traces that is larger than rounding.

    The mask is [pair, moe_layer].
    """
    layers = comparison.choices["moe_layer"].values
    differs = np.zeros((len(comparison.alignment.pairs), len(layers)), bool)
    numbers = [comparison.a.shape.layer_of(layer) for layer in layers.tolist()]
    for (below, values), limits in ((_weights(comparison), layers.tolist()), (_norms(comparison), numbers)):
        for place, layer in enumerate(limits):
            differs[:, place] |= _beyond(comparison.dtype, values[:, np.asarray(below) < layer]).any(1)
    logprob = abs(comparison.choices["logprob_difference"].values)[:, None] / NATS
    return np.maximum.accumulate(differs | _beyond(comparison.dtype, logprob), axis=0)


def _beyond(dtype: str, values: np.ndarray) -> np.ndarray:
    """Return a mask of differences that rounding does not explain, [pair, column].

    In a column in which most differences exceed the tolerance, every difference above the tolerance counts; in any
    other column, only a difference far above the tolerance.
    """
    limit, known = near_ties.tolerance(dtype), np.isfinite(values)
    large = known & (values > limit)
    as_a_whole = 2 * large.sum(0) > known.sum(0)
    return (large & as_a_whole) | (known & (values > _LOCAL * limit))


def _weights(comparison: Comparison) -> tuple[list[int], np.ndarray]:
    """Return the MoE layers, and the largest difference of a gate weight between both traces, [pair, moe_layer].

    Only experts that both traces selected count. The difference is relative to the largest gate weight of the choice.
    """
    layers = comparison.choices["moe_layer"].values.tolist()
    if not comparison.a.has("gate_weight"):
        return [], np.zeros((len(comparison.alignment.pairs), 0))
    weights = comparison.a.data["gate_weight"].sel(moe_layer=layers).values[comparison.alignment.pairs[:, 0]]
    with np.errstate(all="ignore"):
        return layers, comparison.choices["weight_difference"].values / np.abs(weights).max(-1)


def _norms(comparison: Comparison) -> tuple[list[int], np.ndarray]:
    """Return the layers, and the relative difference of the residual norm after each layer, [pair, layer]."""
    name, (a, b), pairs = "residual_norm", (comparison.a, comparison.b), comparison.alignment.pairs
    if not (a.has(name) and b.has(name)):
        return [], np.zeros((len(pairs), 0))
    layers = sorted(set(a.data["layer"].values.tolist()) & set(b.data["layer"].values.tolist()))
    norms = [trace.data[name].sel(layer=layers).values[pairs[:, side]] for side, trace in enumerate((a, b))]
    with np.errstate(all="ignore"):
        return layers, np.abs(norms[0] - norms[1]) / np.abs(norms[0])
