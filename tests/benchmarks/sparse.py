"""Measure the cost of sparse attention for one decoded token, by the length of the context, on the embedded weights.

The cache is filled with random latents, since times do not depend on their values. The core attention reads the
selected latents only, so its time should not grow with the context; the indexer scores every key.

    python -m tests.benchmarks.sparse [MODEL]
"""

import click
import torch

from model.checkpoint.embedded import find_model
from model.checkpoint.weights import load_model
from model.network.cache import LatentCache
from model.network.layout import lay_out_for_decoding
from model.network.transformer import Transformer
from model.run.decode_cost import decode_cost, median_us
from model.train.parts.indexer_warm_up import with_top_k

CONTEXTS = (512, 1024, 2048, 4096)
REPEATS, LAYER = 200, 2


def filled_cache(model: Transformer, context: int) -> LatentCache:
    """Return a cache of all tokens of the context except the decoded one."""
    cache = LatentCache(model.config, context, torch.device("cpu"), torch.float32)
    for stored in (*cache.latents, *cache.index_keys):
        stored.normal_()
    cache.length = context - 1
    return cache


def step_us(model: Transformer, context: int) -> float:
    """Return the microseconds of decoding one token through the whole model."""
    cache, token_ids = filled_cache(model, context), torch.tensor([[5]])

    def step() -> None:
        cache.length = context - 1
        model(token_ids, cache)

    return median_us(step, REPEATS, torch.device("cpu"))


@click.command()
@click.argument("model", default="mini-v32")
@torch.inference_mode()
def main(model: str) -> None:
    """Print a table, in microseconds."""
    torch.set_num_threads(2)
    sparse = load_model(find_model(model), "cpu", torch.float32)
    dense = lay_out_for_decoding(with_top_k(sparse, 1 << 20))
    sparse = lay_out_for_decoding(sparse)
    click.echo(f"{model}, {sparse.config.index_topk} keys kept, microseconds per decoded token")
    click.echo("| context | core attention, dense | sparse | indexer | whole step, every key kept | sparse |")
    click.echo("|---:|---:|---:|---:|---:|---:|")
    for context in CONTEXTS:
        core = decode_cost(sparse, LAYER, context, repeats=REPEATS)
        figures = (core.dense, core.sparse, core.indexer, step_us(dense, context), step_us(sparse, context))
        click.echo(f"| {context:,} | " + " | ".join(f"{figure:,.0f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
