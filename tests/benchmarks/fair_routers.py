"""Print how often each statement on chance is wrong for a fair router, over 30 shapes and 5 numbers of tokens.

Every layer here is routed by chance alone, so every "more than chance explains" is an error. The bar is 5 % of layers
for each statement.

    python -m tests.benchmarks.fair_routers --layers 2000
"""

import itertools
from collections.abc import Iterator

import click
import numpy as np
import xarray as xr

from model.doctor import load as doctor
from model.trace import chance, metrics
from model.trace.routing import share_intervals

# experts, experts per token, groups, kept groups
SHAPES = (
    (8, 1, 1, 1), (8, 2, 1, 1), (8, 2, 4, 2), (16, 1, 1, 1), (16, 2, 1, 1), (16, 4, 4, 2), (16, 4, 8, 3), (24, 2, 1, 1),
    (32, 2, 1, 1), (32, 4, 1, 1), (32, 4, 4, 2), (32, 8, 4, 3), (48, 4, 1, 1), (60, 4, 1, 1), (64, 2, 1, 1),
    (64, 6, 1, 1), (64, 6, 8, 3), (64, 8, 8, 4), (72, 6, 1, 1), (96, 4, 1, 1), (128, 4, 1, 1), (128, 8, 1, 1),
    (128, 8, 8, 4), (160, 6, 8, 3), (160, 8, 1, 1), (192, 8, 1, 1), (256, 8, 1, 1), (256, 8, 8, 4), (288, 8, 1, 1),
    (384, 8, 1, 1),
)  # fmt: skip
TOKENS = (5, 28, 100, 700, 5000)
KINDS = (0.4, 0.25, 0.05, 0.15, 0.08, 0.02, 0.05)  # shares of seven kinds of token, about those of English text
ROWS = 3 + len(KINDS)  # with "all", "prompt" and "generated"


def wrong(
    rng: np.random.Generator, layers: int, num_tokens: int, shape: tuple[int, int, int, int]
) -> Iterator[tuple[str, float]]:
    """Yield each statement and the share of fair layers for which it is wrong."""
    experts, top_k, groups, _ = shape
    values = chance.fair_counts(rng, layers, num_tokens, *shape)
    band, counts = chance.load_band(num_tokens, *shape), xr.DataArray(values, dims=("moe_layer", "expert"))
    ratio, dead = metrics.relative_load(counts).values, (values == 0).sum(1)
    by_group = metrics.tokens_per_group(counts, groups)
    by_group = (by_group / by_group.mean("group")).values
    yield "busiest expert (Expert load, doctor)", (metrics.max_violation(counts) > band.max_violation).values.mean()
    yield "any expert (dots, tables, lens)", ((ratio < band.low) | (ratio > band.high)).any(1).mean()
    yield "any group", ((by_group < band.group_low) | (by_group > band.group_high)).any(1).mean()
    yield "more experts without a token", (dead > band.num_dead).mean()
    enough = num_tokens >= chance.tokens_to_call_dead(experts, top_k)
    yield "an expert without a token is dead", (dead > 0).mean() if enough else 0.0
    yield "CV", (metrics.coefficient_of_variation(counts).values > band.variation).mean()
    yield "entropy", (metrics.normalised_entropy(counts).values < band.entropy).mean()
    yield "Gini", (metrics.gini(counts).values > band.gini).mean()
    yield "share of a kind of token (Routing)", _kinds(rng, layers, num_tokens, top_k / experts)
    _, high = share_intervals(values, num_tokens)
    judged = (1 - top_k / experts) ** num_tokens * experts < doctor.IDLE_BY_CHANCE
    yield "starved expert (doctor)", (high < doctor.STARVED * top_k / experts).any(1).mean() if judged else 0.0


def _kinds(rng: np.random.Generator, layers: int, num_tokens: int, share: float) -> float:
    """Return how often any row of a fair expert is said to be beyond chance, with tokens of random kinds and parts."""
    sizes = rng.multinomial(num_tokens, [kind / 2 for kind in KINDS] * 2, layers).reshape(layers, 2, -1)
    taken = rng.binomial(sizes, share)
    rows = [np.concatenate([n.sum((1, 2))[:, None], n.sum(2), n.sum(1)], 1) for n in (sizes, taken)]
    beyond, present = np.zeros(layers, bool), (rows[0] > 0).sum(1)
    bounds = {
        (total, number): chance.count_bounds(total, share, 1 - 0.05 / number)
        for total, number in {
            (int(total), int(number)) for row, number in zip(rows[0], present, strict=True) for total in row if total
        }
    }
    for layer, (row, number) in enumerate(zip(rows[0].tolist(), present.tolist(), strict=True)):
        for total, took in zip(row, rows[1][layer].tolist(), strict=True):
            if total:
                least, most = bounds[total, number]
                beyond[layer] |= not least <= took <= most
    return float(beyond.mean())


@click.command()
@click.option("--layers", default=2000, show_default=True, help="Simulated layers for each shape and number of tokens.")
def main(layers: int) -> None:
    """Print a table: each statement's mean and largest share of wrong layers."""
    rng, rates = np.random.default_rng(7), dict[str, list[float]]()
    for shape, num_tokens in itertools.product(SHAPES, TOKENS):
        for name, rate in wrong(rng, layers, num_tokens, shape):
            rates.setdefault(name, []).append(float(rate))
    error = np.sqrt(0.05 * 0.95 / layers)
    click.echo(f"{len(SHAPES) * len(TOKENS)} pairs of {layers:,} layers; a rate of 5 % errs by {error:.2%}")
    for name, values in rates.items():
        click.echo(f"{name:<40} mean {np.mean(values):6.2%}   largest {np.max(values):6.2%}")


if __name__ == "__main__":
    main()
