"""Measures the time of one layer's attention for one decoded token, with all keys and with selected keys only.

The times are measured with the model's own weights. The cache holds random latents, because times do not depend on
their values. The context may therefore be longer than any text, and longer than the contexts of the training.

Shape suffixes: B batch (1), T new positions (1), S positions so far, D model width, H heads, N content head width,
R position head width, C key-value latent width, X query latent width.

Source: DeepSeek-V3.2-Exp report (2025), section 2 (the costs that grow with the context).
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch

from model.network.cache import LatentCache
from model.network.decision import Selection
from model.network.indexer import select
from model.network.transformer import Transformer


@dataclasses.dataclass(frozen=True, slots=True)
class DecodeCost:
    """Median times, in microseconds, of one layer's attention for one decoded token."""

    context: int  # tokens that the decoded token reads, including itself
    dense: float  # core attention over all keys
    sparse: float  # core attention over the selected keys
    indexer: float  # scoring all keys and selecting


def median_us(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the median microseconds of `repeats` calls, after a tenth as many calls to warm up."""

    def now() -> float:
        if device.type == "cuda":  # CUDA calls return before their work is done
            torch.cuda.synchronize(device)
        return time.perf_counter()

    seconds = []
    for _ in range(repeats + repeats // 10):
        began = now()
        run()
        seconds.append(now() - began)
    return float(np.median(seconds[-repeats:])) * 1e6


@torch.inference_mode()
def decode_cost(
    model: Transformer, layer: int, context: int, top_k: int | None = None, repeats: int = 40
) -> DecodeCost:
    """Return the measured times of a layer that has an indexer.

    Args:
        model: a V3.2 model with its weights.
        layer: model layer number.
        context: number of tokens that the decoded token reads, including itself.
        top_k: number of keys that the indexer selects; None: the number in the configuration.
        repeats: number of timed calls.
    """
    attention, weight = model.block(layer).attention, model.embedding.weight
    assert attention.indexer is not None
    indexer, device, dtype = attention.indexer, weight.device, weight.dtype
    cache = LatentCache(model.config, context, device, dtype, layers=(layer,))
    for stored in (*cache.latents, *cache.index_keys):
        stored.normal_()
    cache.length = context - 1
    x_BTD = torch.randn(1, 1, model.config.hidden_size, device=device, dtype=dtype)
    rotations_TR = model.rotary(context - 1, context)
    query_latent_BTX = attention.query_latent(x_BTD)
    content_BTHN, position_BTHR, latent_BTC = attention.project(x_BTD, rotations_TR, query_latent_BTX)
    latent_BSC = cache.extend(layer, latent_BTC)
    scores_BTS = indexer(x_BTD, query_latent_BTX, rotations_TR, cache).scores_BTS
    selection: Selection = select(scores_BTS, top_k or model.config.index_topk)

    def attend(selected: Selection | None) -> float:
        def once() -> torch.Tensor:
            return attention.absorbed(content_BTHN, position_BTHR, latent_BSC, selected)

        return median_us(once, repeats, device)

    return DecodeCost(
        context,
        dense=attend(None),
        sparse=attend(selection if selection.is_partial else None),
        indexer=median_us(lambda: indexer(x_BTD, query_latent_BTX, rotations_TR, cache), repeats, device),
    )
