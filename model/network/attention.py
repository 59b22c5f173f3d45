"""Multi-head latent attention: keys and values of all heads are read from one small latent vector per token.

Two forms of the same function. *Naive*: the latents are expanded to keys and values (fewer operations per query-key
pair, for many queries at once). *Absorbed*: the expansion is moved into the query and the output, and the latents
themselves are keys and values (nothing is expanded, for one query at a time or a few). With sparse attention
(indexer.py) only selected keys are read: the naive form masks the others, the absorbed form gathers the selected
latents for one query, so that its cost grows with their number and not with the context.

Shape suffixes: B batch, T new positions, S positions so far, D model width, H heads, N content (nope) head width,
R position (rope) head width, Q = N + R, V value head width, C key-value latent width, X query latent width,
K selected keys.
X also stands for rows of a product that are two axes side by side.

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

# The released code builds these two norms without the configured epsilon.
BOTTLENECK_NORM_EPS = 1e-6
# New positions for which expanding all latents costs more than reading them as they are: a token, and drafts after it.
FEW_QUERIES = 4


class Attention(nn.Module):
    """One layer's attention; position enters through the R rotated channels only."""

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
        """Attend from the new positions to all positions so far, or to the selected ones of them.

        Args:
            x_BTD: the normalised residual stream.
            rotations_TR: of the new positions.
            cache: holds what earlier positions left, and takes the new ones.
            tape: where the probe points write.
            selection: of the last layer that has an indexer; used by a layer that has none of its own.

        Returns:
            The output [B, T, D], and the selection that was used (None: the model has no indexers).
        """
        query_latent_BTX = self.query_latent(x_BTD)
        content_BTHN, position_BTHR, latent_BTC = self.project(x_BTD, rotations_TR, query_latent_BTX)
        if self.indexer is not None:
            # Detached: the indexer learns by a loss of its own, which is not to change what it looks at.
            own: Selection = self.indexer(x_BTD.detach(), query_latent_BTX.detach(), rotations_TR, cache)
            if tape is not None:
                tape.selection(self.layer, own)
            selection = own
        latent_BSC = latent_BTC if cache is None else cache.extend(self.layer, latent_BTC)
        few_at_a_time = cache is not None and x_BTD.shape[1] <= min(FEW_QUERIES, max(1, cache.length))
        attend = self.absorbed if few_at_a_time else self.naive
        # Where every key is kept, attention is the dense one, to the bit.
        partial = selection if selection is not None and selection.is_partial else None
        return self.output(attend(content_BTHN, position_BTHR, latent_BSC, partial, tape)), selection

    def query_latent(self, x_BTD: Tensor) -> Tensor:
        """What the queries are made from, [B, T, X]: the normalised bottleneck, or the input itself without one."""
        return x_BTD if self.config.q_lora_rank is None else self.query_norm(self.query_down(x_BTD))

    def project(
        self, x_BTD: Tensor, rotations_TR: Tensor, query_latent_BTX: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Content and rotated position part of the queries, and the latents to remember, [B, T, C + R]."""
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
        """Keys [B, H, S, Q] and values [B, H, S, V] of all heads; the position key is the same in every head."""
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
        """Mixed values of all heads side by side, [B, T, H * V], with keys and values made of all latents."""
        query_BHTQ = torch.cat([content_BTHN, position_BTHR], dim=-1).transpose(1, 2)
        key_BHSQ, value_BHSV = self.expand(latent_BSC)
        if tape is not None:
            tape.attention(self.layer, query_BHTQ, key_BHSQ, self.scale, selection)
        fresh = query_BHTQ.shape[2] == key_BHSQ.shape[2]
        # Only equally wide keys and values reach the fused kernel on the CPU: the values are filled up with zeros.
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
        """The same with the latents as keys and values; see `project` for what it is given."""
        config, shape_BT = self.config, content_BTHN.shape[:2]
        up_HXC = self.kv_up.weight.view(config.num_heads, -1, config.kv_lora_rank)
        key_up_HNC, value_up_HVC = up_HXC.split_with_sizes([config.nope_head_dim, config.value_head_dim], 1)
        # All sequences' queries of a head are rows of one product, which reads the head's matrix once.
        content_HXC = torch.bmm(content_BTHN.flatten(0, 1).transpose(0, 1), key_up_HNC)
        content_BHTC = content_HXC.unflatten(1, shape_BT).transpose(0, 1)
        query_BHTC = torch.cat([content_BHTC, position_BTHR.transpose(1, 2)], dim=-1)
        if tape is not None:
            tape.attention(self.layer, query_BHTC, latent_BSC[:, None], self.scale, selection)
        mixed_BHTC = self._read_latents(query_BHTC, latent_BSC, selection)
        mixed_HXV = torch.bmm(mixed_BHTC.transpose(0, 1).flatten(1, 2), value_up_HVC.mT)
        return mixed_HXV.transpose(0, 1).unflatten(0, shape_BT).flatten(2)

    def _read_latents(self, query_BHTC: Tensor, latent_BSC: Tensor, selection: Selection | None) -> Tensor:
        """Each query's mean of the latents it may read, weighted by its attention, [B, H, T, C]."""
        num_queries, num_keys = query_BHTC.shape[2], latent_BSC.shape[1]
        hidden = None  # broadcasts to [B, H, T, S]
        if selection is not None and num_queries == 1:
            ids_BKC = selection.key_ids_BTK[:, 0, :, None].expand(-1, -1, latent_BSC.shape[2])
            latent_BSC = latent_BSC.gather(1, ids_BKC)
        elif selection is not None:
            hidden = ~selection.kept_BTS.unsqueeze(1)
        elif num_queries > 1:
            hidden = ~causal_mask(num_queries, num_keys, latent_BSC.device)
        # Heads and queries are rows of one product: the latents are the same for all heads.
        scores_BXS = torch.bmm(query_BHTC.flatten(1, 2), latent_BSC.mT).float() * self.scale
        if hidden is not None:
            scores_BHTS = scores_BXS.unflatten(1, query_BHTC.shape[1:3]).masked_fill(hidden, -torch.inf)
            scores_BXS = scores_BHTS.flatten(1, 2)
        weights_BXS = scores_BXS.softmax(-1).to(latent_BSC.dtype)
        mixed_BXC = torch.bmm(weights_BXS, latent_BSC[..., : self.config.kv_lora_rank])
        return mixed_BXC.unflatten(1, query_BHTC.shape[1:3])


def attention_weights(query_BHTQ: Tensor, key_BHSQ: Tensor, scale: float, selection: Selection | None = None) -> Tensor:
    """Softmax weights [B, H, T, S] in fp32 over the keys up to each query's position, or the selected ones of them."""
    scores_BHTS = (query_BHTQ @ key_BHSQ.mT).float() * scale
    if selection is not None:
        scores_BHTS = scores_BHTS.masked_fill(~selection.kept_BTS.unsqueeze(1), -torch.inf)
    elif scores_BHTS.shape[-2] > 1:
        num_queries, num_keys = scores_BHTS.shape[-2:]
        visible_TS = causal_mask(num_queries, num_keys, scores_BHTS.device)
        scores_BHTS = scores_BHTS.masked_fill(~visible_TS, -torch.inf)
    return scores_BHTS.softmax(-1)
