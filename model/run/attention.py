"""Attention of any layer and head after the run, computed from the captured input of the layer.

Shape suffixes: T tokens, D model width, H heads, N content head width, R position head width, Q = N + R.
"""

import torch
import xarray as xr
from torch import Tensor

from model.network.attention import attention_weights, causal_mask
from model.run.engine import Engine
from model.run.request import RequestError
from model.trace.trace import Trace

QUERY_ROWS = 512  # computed at a time, over the keys up to the last of them: half the work, and little held at once


@torch.inference_mode()
def head_attention(engine: Engine, trace: Trace, layer: int, heads: list[int] | None = None) -> xr.DataArray:
    """Attention weights of a layer, [head, query, key]; *derived* from the recorded input with the model's weights.

    Raises:
        RequestError: the trace holds no layer inputs, or was made with other weights.
    """
    chosen = list(range(engine.config.num_heads)) if heads is None else heads
    query_1HTQ, key_1HTQ = (part[:, chosen] for part in _queries_and_keys(engine, trace, layer))
    scale, num_tokens = engine.model.block(layer).attention.scale, trace.num_tokens
    weights_HTT = torch.zeros(len(chosen), num_tokens, num_tokens)
    for first in range(0, num_tokens, QUERY_ROWS):
        end = min(first + QUERY_ROWS, num_tokens)
        weights_HTT[:, first:end, :end] = attention_weights(query_1HTQ[:, :, first:end], key_1HTQ[:, :, :end], scale)[0]
    return xr.DataArray(weights_HTT.numpy(), dims=("head", "query", "key"), coords={"head": chosen})


def has_weights_of(engine: Engine, trace: Trace) -> bool:
    """Whether the trace was made with this engine's weights; only then may more of it be computed."""
    return trace.model.get("weights_sha256") == engine.description["weights_sha256"]


@torch.inference_mode()
def score_parts(engine: Engine, trace: Trace, layer: int, head: int) -> tuple[xr.DataArray, xr.DataArray]:
    """The two terms of a head's score before the softmax, content and position, each [query, key], scaled.

    Pairs that the causal mask hides are NaN. The sum of the two is the score (DeepSeek-V2 report, equation 10).
    """
    query_1HTQ, key_1HTQ = _queries_and_keys(engine, trace, layer)
    split = [engine.config.nope_head_dim, engine.config.rope_head_dim]
    query_parts, key_parts = query_1HTQ[0, head].split(split, dim=-1), key_1HTQ[0, head].split(split, dim=-1)
    scale = engine.model.block(layer).attention.scale
    content, position = (_masked(q @ k.T * scale) for q, k in zip(query_parts, key_parts, strict=True))
    return content, position


def _masked(scores_TT: Tensor) -> xr.DataArray:
    visible_TT = causal_mask(len(scores_TT), len(scores_TT), scores_TT.device)
    scores = scores_TT.float().masked_fill(~visible_TT, torch.nan)
    return xr.DataArray(scores.cpu().numpy(), dims=("query", "key"))


def _queries_and_keys(engine: Engine, trace: Trace, layer: int) -> tuple[Tensor, Tensor]:
    if not trace.has("layer_input"):
        raise RequestError("this trace holds no layer inputs; record it with the capture 'inputs'")
    if not has_weights_of(engine, trace):
        raise RequestError(f"this trace was made with other weights than {engine.name}'s")
    recorded = torch.from_numpy(trace.data["layer_input"].sel(layer=layer).values.copy())
    bits = recorded.dtype == torch.uint16
    x_1TD = (recorded.view(torch.bfloat16) if bits else recorded).to(engine.device, engine.dtype)[None]
    block = engine.model.block(layer)
    rotations_TR = engine.model.rotary(0, x_1TD.shape[1])
    content, position, latent = block.attention.project(block.attention_norm(x_1TD), rotations_TR)
    return torch.cat([content, position], dim=-1).transpose(1, 2), block.attention.expand(latent)[0]
