"""DeepSeek Sparse Attention: the lightning indexer scores all keys and selects those that a layer's attention reads.

All attention heads of a layer share the selection. The scores are differentiable, the selection is not, so the indexer
is trained on its scores.

Shape suffixes: B batch, T new positions, S positions so far, D model width, X query latent width, J index heads,
I index head width, K selected keys, R rotated channels.

Source: DeepSeek-V3.2-Exp report (2025), equations 1 and 2. This file includes two constant factors of the released
code that the equations omit; they scale all scores alike. It omits the Hadamard rotation and FP8 of the released code,
which speed up its kernels and do not change exact products.
"""

import torch
from torch import Tensor, nn

from model.network.cache import LatentCache
from model.network.config import ModelConfig
from model.network.decision import Selection
from model.network.layers import rotate, rotate_halves, without_autocast

KEY_NORM_EPS = 1e-6
# Largest number of products of queries and keys in memory at once: 64 heads x 2,048 keys x 256 queries, 134 MB.
VALUES_AT_ONCE = 1 << 25


class Indexer(nn.Module):
    """Scores every key for a query with a few narrow heads, and selects the best `index_topk`."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        heads, width = config.index_heads, config.index_head_dim
        assert config.q_lora_rank is not None  # checked by the configuration
        self.query = nn.Linear(config.q_lora_rank, heads * width, bias=False)
        self.key = nn.Linear(config.hidden_size, width, bias=False)
        self.key_norm = nn.LayerNorm(width, eps=KEY_NORM_EPS)
        self.head_weights = nn.Linear(config.hidden_size, heads, bias=False)

    def forward(
        self, x_BTD: Tensor, query_latent_BTX: Tensor, rotations_TR: Tensor, cache: LatentCache | None = None
    ) -> Selection:
        """Return the keys selected for the new positions.

        Args:
            x_BTD: the input of the layer's attention.
            query_latent_BTX: the normalised query latent of the layer's attention.
            rotations_TR: rotations of the new positions.
            cache: holds the index keys of earlier positions; the index keys of the new positions are appended.
        """
        key_BTI = self._rotate(self.key_norm(self.key(x_BTD)).unsqueeze(2), rotations_TR)[:, :, 0]
        key_BSI = key_BTI if cache is None else cache.extend_index(self.layer, key_BTI)
        query_BTJI = self.query(query_latent_BTX).unflatten(-1, (self.config.index_heads, -1))
        weights_BTJ = self.head_weights(x_BTD).float() * self.config.index_heads**-0.5
        scores_BTS = self.score(self._rotate(query_BTJI, rotations_TR), key_BSI, weights_BTJ)
        return select(scores_BTS, self.config.index_topk)

    def _rotate(self, x_BTJI: Tensor, rotations_TR: Tensor) -> Tensor:
        """Rotate the first R channels: pairs (i, i + R/2) in DeepSeek's models, adjacent channels in GLM's."""
        position_BTJR, content = x_BTJI.tensor_split([self.config.rope_head_dim], dim=-1)
        turn = rotate if self.config.index_interleaved else rotate_halves
        return torch.cat([turn(position_BTJR, rotations_TR), content], dim=-1)

    def score(self, query_BTJI: Tensor, key_BSI: Tensor, weights_BTJ: Tensor) -> Tensor:
        """Return sum over index heads of weight * relu(query . key / sqrt(I)), fp32; -inf for keys after the query."""
        keys_BIS = key_BSI.float().mT * self.config.index_head_dim**-0.5
        num_queries, num_keys = query_BTJI.shape[1], key_BSI.shape[1]
        rows = max(1, VALUES_AT_ONCE // (query_BTJI.shape[0] * query_BTJI.shape[2] * num_keys))
        parts = []
        with without_autocast(query_BTJI):  # rounding a score may change the selection
            for query, weights in zip(query_BTJI.float().split(rows, 1), weights_BTJ.split(rows, 1), strict=True):
                products = torch.matmul(query, keys_BIS.unsqueeze(1)).relu()
                parts.append(torch.matmul(weights.unsqueeze(-2), products).squeeze(-2))
        scores_BTS = torch.cat(parts, dim=1)
        return scores_BTS.masked_fill(~causal_mask(num_queries, num_keys, scores_BTS.device), -torch.inf)


def select(scores_BTS: Tensor, top_k: int) -> Selection:
    """Return the `top_k` best-scored keys of each query, or all keys if there are fewer."""
    ids_BTK = scores_BTS.topk(min(top_k, scores_BTS.shape[-1]), dim=-1).indices
    kept_BTS = torch.zeros_like(scores_BTS, dtype=torch.bool).scatter_(-1, ids_BTK, True)
    return Selection(scores_BTS, ids_BTK, kept_BTS & (scores_BTS > -torch.inf))


def causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """Return a mask [T, S], True where a query may read a key.

    The queries are the last T of the S positions; each reads the keys up to its own position.
    """
    ones_TS = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    return ones_TS.tril(num_keys - num_queries)
