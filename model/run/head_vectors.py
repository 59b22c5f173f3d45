"""Queries and keys of single heads after the run, computed from the captured input of their layer.

Only the latents that all heads share are kept, a few hundred values per token. The queries and keys of a head are
computed on request, because those of all heads would take gigabytes for a long prompt.

Shape suffixes: T tokens, S keys before `end`, B queries of a block, X query latent width, C key-value latent width,
H heads, N content head width, R position head width, Q = N + R.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.layers import rotate
from model.run.engine import Engine
from model.run.protocol import LocalEngineProtocol
from model.run.request import RequestError
from model.trace.trace import Trace


class HeadVectors:
    """The latents of one layer, which give the queries and keys of any head. Immutable, so sessions may share them."""

    @torch.inference_mode()
    def __init__(self, engine: Engine, trace: Trace, layer: int) -> None:
        """Compute the latents from the layer's recorded input.

        Raises:
            RequestError: the trace holds no layer inputs, or was made with other weights.
        """
        x_TD = _layer_input(engine, trace, layer)
        block, self._config = engine.model.block(layer), engine.config
        self._attention = block.attention
        self.scale, self.num_heads, self.num_tokens = block.attention.scale, engine.config.num_heads, len(x_TD)
        normed_TD = block.attention_norm(x_TD)
        self._rotations_TR = engine.model.rotary(0, len(x_TD))
        self._query_TX = block.attention.query_latent(normed_TD)
        widths = [engine.config.kv_lora_rank, engine.config.rope_head_dim]
        raw_TC, position_TR = block.attention.kv_down(normed_TD).split_with_sizes(widths, -1)
        self._latent_TC = block.attention.kv_norm(raw_TC)
        self._position_TR = rotate(position_TR[None, :, None], self._rotations_TR)[0, :, 0]

    def queries(self, head: int, first: int, end: int) -> tuple[Tensor, Tensor]:
        """Return the content part [B, N] and rotated position part [B, R] of queries `first` to `end` - 1, fp32."""
        up = self._attention.query if self._config.q_lora_rank is None else self._attention.query_up
        up_QX = up.weight.view(self.num_heads, self._config.query_head_dim, -1)[head]
        query_BQ = F.linear(self._query_TX[first:end], up_QX)
        content_BN, position_BR = query_BQ.split_with_sizes([self._config.nope_head_dim, self._config.rope_head_dim], 1)
        rotated_BR = rotate(position_BR[None, :, None], self._rotations_TR[first:end])[0, :, 0]
        return content_BN.float(), rotated_BR.float()

    def keys(self, head: int, end: int) -> tuple[Tensor, Tensor]:
        """Return the content part [S, N] and rotated position part [S, R] of the keys before `end`, fp32."""
        up_NC = self._attention.kv_up.weight.view(self.num_heads, -1, self._config.kv_lora_rank)[head]
        content_SN = F.linear(self._latent_TC[:end], up_NC[: self._config.nope_head_dim])
        return content_SN.float(), self._position_TR[:end].float()


def has_weights_of(engine: LocalEngineProtocol, trace: Trace) -> bool:
    """Whether the trace was made with this engine's weights; only then can the engine compute more of the same run."""
    made_with = trace.model.get("weights_sha256")
    return made_with is not None and made_with == engine.description["weights_sha256"]


def kept_keys(engine: Engine, trace: Trace, layer: int) -> np.ndarray | None:
    """Return the recorded mask of the keys that each query of a layer read, bool [T, T]; None if attention is dense.

    Raises:
        RequestError: the model is sparse and its selection was not recorded.
    """
    choosing = [number for number in engine.config.indexer_layers if number <= layer]
    if not choosing or trace.num_tokens <= engine.config.index_topk:
        return None
    recorded = trace.data["indexer_layer"].values if trace.has("indexer_kept") else ()
    if choosing[-1] not in recorded:
        raise RequestError(f"layer {layer} reads only selected keys; record the selection with the capture 'indexer'")
    return trace.data["indexer_kept"].sel(indexer_layer=choosing[-1]).values


def _layer_input(engine: Engine, trace: Trace, layer: int) -> Tensor:
    """Return the recorded residual stream before the layer, [T, D], in the engine's dtype."""
    if not trace.has("layer_input"):
        raise RequestError("this trace holds no layer inputs; record it with the capture 'inputs'")
    if not has_weights_of(engine, trace):
        raise RequestError(f"this trace was made with other weights than {engine.name}'s")
    recorded = torch.from_numpy(trace.data["layer_input"].sel(layer=layer).values.copy())
    bits = recorded.dtype == torch.uint16
    return (recorded.view(torch.bfloat16) if bits else recorded).to(engine.device, engine.dtype)
