"""Multi-head latent attention: one small latent vector per token holds the keys and values of all heads.

Two forms compute the same function. The *naive* form expands the latents to keys and values. It needs fewer operations
per query-key pair, so it is used for many queries at once. The *absorbed* form applies the expansion matrices to the
query and to the output, and uses the latents themselves as keys and values. It expands no key, so it is used for one
query or a few. In sparse attention (indexer.py) a query reads only selected keys. The naive form masks all other keys.
The absorbed form, for a single query, gathers the selected latents: its cost grows with the number of selected keys,
not with the length of the context.

Shape suffixes: B batch, T new positions, S positions so far, D model width, H heads, N content (nope) head width,
R position (rope) head width, Q = N + R, V value head width, C key-value latent width, X query latent width,
K selected keys. X also stands for an axis that joins two others.

Source: DeepSeek-V2 report (arXiv 2405.04434), section 2.1; DeepSeek-V3 report, section 2.1.1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.cache import LatentCache
from model.network.config import ModelConfig
from model.network.decision import Selection
from model.network.indexer import Indexer, causal_mask
from model.network.layers import rotate
from model.network.tape import Tape

# The released code does not pass the configured epsilon to these two norms.
BOTTLENECK_NORM_EPS = 1e-6
# Up to this many new positions (a token and its drafts), the absorbed form is faster than the naive form.
FEW_QUERIES = 4


class Attention(nn.Module):
    """Attention of one layer; positions enter through the R rotated channels only."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        self.scale = config.query_head_dim**-0.5 * (config.yarn.softmax_scale if config.yarn else 1.0)
        hidden, heads, bias = config.hidden_size, config.num_heads, config.attention_bias
        if config.q_lora_rank is None:
            self.query = nn.Linear(hidden, heads * config.query_head_dim, bias=False)
        else:
            self.query_down = nn.Linear(hidden, config.q_lora_rank, bias=bias)
            self.query_norm = nn.RMSNorm(config.q_lora_rank, eps=BOTTLENECK_NORM_EPS)
            self.query_up = nn.Linear(config.q_lora_rank, heads * config.query_head_dim, bias=False)
        self.kv_down = nn.Linear(hidden, config.kv_lora_rank + config.rope_head_dim, bias=bias)
        self.kv_norm = nn.RMSNorm(config.kv_lora_rank, eps=BOTTLENECK_NORM_EPS)
        self.kv_up = nn.Linear(config.kv_lora_rank, heads * (config.nope_head_dim + config.value_head_dim), bias=False)
        self.output = nn.Linear(heads * config.value_head_dim, hidden, bias=bias)
        self.indexer = Indexer(config, layer) if config.has_indexer(layer) else None

    def forward(
        self,
        x_BTD: Tensor,
        rotations_TR: Tensor,
        cache: LatentCache | None = None,
        tape: Tape | None = None,
        selection: Selection | None = None,
    ) -> tuple[Tensor, Selection | None]:
        """Return the output of attention from the new positions to all positions so far, or to the selected positions.

        Args:
            x_BTD: the normalised residual stream.
            rotations_TR: rotations of the new positions.
            cache: holds the latents of earlier positions; the latents of the new positions are appended.
            tape: receives the tensors at the probe points.
            selection: selection of the nearest earlier layer with an indexer, for a layer without an indexer.

        Returns:
            The output [B, T, D], and the selection of this layer's keys (None in a model without indexers).
        """
        query_latent_BTX = self.query_latent(x_BTD)
        content_BTHN, position_BTHR, latent_BTC = self.project(x_BTD, rotations_TR, query_latent_BTX)
        if self.indexer is not None:
            # Detached: the indexer has a loss of its own, which must not change its inputs.
            own: Selection = self.indexer(x_BTD.detach(), query_latent_BTX.detach(), rotations_TR, cache)
            if tape is not None:
                tape.selection(self.layer, own)
            selection = own
        latent_BSC = latent_BTC if cache is None else cache.extend(self.layer, latent_BTC)
        few_at_a_time = cache is not None and x_BTD.shape[1] <= min(FEW_QUERIES, max(1, cache.length))
        attend = self.absorbed if few_at_a_time else self.naive
        # With every key kept, dense attention gives the same result to the bit.
        partial = selection if selection is not None and selection.is_partial else None
        return self.output(attend(content_BTHN, position_BTHR, latent_BSC, partial, tape)), selection

    def query_latent(self, x_BTD: Tensor) -> Tensor:
        """Return the input of the query projection, [B, T, X]: the query latent, or `x_BTD` in a model without one."""
        return x_BTD if self.config.q_lora_rank is None else self.query_norm(self.query_down(x_BTD))

    def project(
        self, x_BTD: Tensor, rotations_TR: Tensor, query_latent_BTX: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries in two parts, and the latents to cache.

        Returns:
            The content part [B, T, H, N], the rotated position part [B, T, H, R], and the latents [B, T, C + R].
        """
        config = self.config
        source_BTX = self.query_latent(x_BTD) if query_latent_BTX is None else query_latent_BTX
        query_BTX = self.query(source_BTX) if config.q_lora_rank is None else self.query_up(source_BTX)
        query_BTHQ = query_BTX.unflatten(-1, (config.num_heads, -1))
        content_BTHN, position_BTHR = query_BTHQ.split_with_sizes([config.nope_head_dim, config.rope_head_dim], -1)
        raw_BTC, key_BTR = self.kv_down(x_BTD).split_with_sizes([config.kv_lora_rank, config.rope_head_dim], -1)
        rotated = rotate(torch.cat([position_BTHR, key_BTR.unsqueeze(2)], dim=2), rotations_TR)
        latent_BTC = torch.cat([self.kv_norm(raw_BTC), rotated[:, :, -1]], dim=-1)
        return content_BTHN, rotated[:, :, :-1], latent_BTC

    def expand(self, latent_BSC: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys [B, H, S, Q] and values [B, H, S, V] from latents; all heads share the position part of a key."""
        config = self.config
        compressed_BSC, position_BSR = latent_BSC.split_with_sizes([config.kv_lora_rank, config.rope_head_dim], -1)
        expanded_BHSX = self.kv_up(compressed_BSC).unflatten(-1, (config.num_heads, -1)).transpose(1, 2)
        content_BHSN, value_BHSV = expanded_BHSX.split_with_sizes([config.nope_head_dim, config.value_head_dim], -1)
        shared_BHSR = position_BSR.unsqueeze(1).expand(-1, config.num_heads, -1, -1)
        return torch.cat([content_BHSN, shared_BHSR], dim=-1), value_BHSV

    def naive(
        self,
        content_BTHN: Tensor,
        position_BTHR: Tensor,
        latent_BSC: Tensor,
        selection: Selection | None,
        tape: Tape | None = None,
    ) -> Tensor:
        """Return the mixed values of all heads, [B, T, H * V], computed from expanded keys and values."""
        query_BHTQ = torch.cat([content_BTHN, position_BTHR], dim=-1).transpose(1, 2)
        key_BHSQ, value_BHSV = self.expand(latent_BSC)
        if tape is not None:
            tape.attention(self.layer, query_BHTQ, key_BHSQ, self.scale, selection)
        fresh = query_BHTQ.shape[2] == key_BHSQ.shape[2]
        # The fused CPU kernel needs keys and values of one width, so the values are padded with zeros.
        width = self.config.value_head_dim
        padded_BHSQ = F.pad(value_BHSV, (0, max(0, self.config.query_head_dim - width)))
        mask = None if fresh else causal_mask(query_BHTQ.shape[2], key_BHSQ.shape[2], query_BHTQ.device)
        if selection is not None:
            mask = selection.kept_BTS.unsqueeze(1)
        mixed_BHTV = F.scaled_dot_product_attention(
            query_BHTQ, key_BHSQ, padded_BHSQ, attn_mask=mask, is_causal=mask is None, scale=self.scale
        )
        return mixed_BHTV[..., :width].transpose(1, 2).flatten(2)

    def absorbed(
        self,
        content_BTHN: Tensor,
        position_BTHR: Tensor,
        latent_BSC: Tensor,
        selection: Selection | None,
        tape: Tape | None = None,
    ) -> Tensor:
        """Return the same values as `naive`, computed with the latents as keys and values."""
        config, shape_BT = self.config, content_BTHN.shape[:2]
        up_HXC = self.kv_up.weight.view(config.num_heads, -1, config.kv_lora_rank)
        key_up_HNC, value_up_HVC = up_HXC.split_with_sizes([config.nope_head_dim, config.value_head_dim], 1)
        # One product per head for the queries of all sequences reads the head's matrix once.
        content_HXC = torch.bmm(content_BTHN.flatten(0, 1).transpose(0, 1), key_up_HNC)
        content_BHTC = content_HXC.unflatten(1, shape_BT).transpose(0, 1)
        query_BHTC = torch.cat([content_BHTC, position_BTHR.transpose(1, 2)], dim=-1)
        if tape is not None:
            tape.attention(self.layer, query_BHTC, latent_BSC[:, None], self.scale, selection)
        mixed_BHTC = self._read_latents(query_BHTC, latent_BSC, selection)
        mixed_HXV = torch.bmm(mixed_BHTC.transpose(0, 1).flatten(1, 2), value_up_HVC.mT)
        return mixed_HXV.transpose(0, 1).unflatten(0, shape_BT).flatten(2)

    def _read_latents(self, query_BHTC: Tensor, latent_BSC: Tensor, selection: Selection | None) -> Tensor:
        """Return for each query the attention-weighted mean of the latents that it may read, [B, H, T, C]."""
        num_queries, num_keys = query_BHTC.shape[2], latent_BSC.shape[1]
        hidden = None  # broadcasts to [B, H, T, S]
        if selection is not None and num_queries == 1:
            ids_BKC = selection.key_ids_BTK[:, 0, :, None].expand(-1, -1, latent_BSC.shape[2])
            latent_BSC = latent_BSC.gather(1, ids_BKC)
        elif selection is not None:
            hidden = ~selection.kept_BTS.unsqueeze(1)
        elif num_queries > 1:
            hidden = ~causal_mask(num_queries, num_keys, latent_BSC.device)
        # All heads share the latents, so heads and queries are the rows of one product.
        scores_BXS = torch.bmm(query_BHTC.flatten(1, 2), latent_BSC.mT).float() * self.scale
        if hidden is not None:
            scores_BHTS = scores_BXS.unflatten(1, query_BHTC.shape[1:3]).masked_fill(hidden, -torch.inf)
            scores_BXS = scores_BHTS.flatten(1, 2)
        weights_BXS = scores_BXS.softmax(-1).to(latent_BSC.dtype)
        mixed_BXC = torch.bmm(weights_BXS, latent_BSC[..., : self.config.kv_lora_rank])
        return mixed_BXC.unflatten(1, query_BHTC.shape[1:3])


def attention_weights(query_BHTQ: Tensor, key_BHSQ: Tensor, scale: float, selection: Selection | None = None) -> Tensor:
    """Return softmax weights [B, H, T, S], fp32, over the keys up to each query, or over the selected keys only."""
    scores_BHTS = (query_BHTQ @ key_BHSQ.mT).float() * scale
    if selection is not None:
        scores_BHTS = scores_BHTS.masked_fill(~selection.kept_BTS.unsqueeze(1), -torch.inf)
    elif scores_BHTS.shape[-2] > 1:
        num_queries, num_keys = scores_BHTS.shape[-2:]
        visible_TS = causal_mask(num_queries, num_keys, scores_BHTS.device)
        scores_BHTS = scores_BHTS.masked_fill(~visible_TS, -torch.inf)
    return scores_BHTS.softmax(-1)
