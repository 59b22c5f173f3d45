"""The whole network: embedding, blocks, final norm, output head.

Departures from a plain transformer: attention reads a latent (attention.py), all but the first layers are mixtures of
experts (moe.py). Everything that changes during a run (cache, tape, edit) is an argument; the model itself is only
read. Without the multi-token-prediction module.

Shape suffixes: B batch, T new positions, D model width, V vocabulary, R rope head width.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 2.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.attention import Attention
from model.network.cache import LatentCache
from model.network.config import ModelConfig
from model.network.edit import RoutingEdit
from model.network.indexer import Selection
from model.network.layers import FeedForward, RotaryTable
from model.network.moe import Experts, MixtureOfExperts, Router
from model.network.tape import Tape


class Block(nn.Module):
    """Attention, then a feed-forward block or a mixture of experts, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.attention_norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.attention = Attention(config, layer)
        self.ffn_norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        dense = layer < config.num_dense_layers
        self.ffn = FeedForward(config.hidden_size, config.dense_width) if dense else MixtureOfExperts(config, layer)

    def forward(
        self,
        x_BTD: Tensor,
        rotations_TR: Tensor,
        cache: LatentCache | None,
        tape: Tape | None,
        edit: RoutingEdit | None,
        selection: Selection | None,
    ) -> tuple[Tensor, Selection | None]:
        if tape is not None:
            tape.layer_input(self.layer, x_BTD)
        mixed_BTD, selection = self.attention(self.attention_norm(x_BTD), rotations_TR, cache, tape, selection)
        x_BTD = x_BTD + mixed_BTD
        normed_BTD = self.ffn_norm(x_BTD)
        if isinstance(self.ffn, MixtureOfExperts):
            x_BTD = x_BTD + self.ffn(normed_BTD, tape, edit and edit.of(self.layer))
        else:
            x_BTD = x_BTD + self.ffn(normed_BTD)
        if tape is not None:
            tape.layer_output(self.layer, x_BTD)
        return x_BTD, selection


class Transformer(nn.Module):
    """DeepSeek-V3, V3.2 and their family. Weights are undefined until they are loaded or `initialise` is called."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.rotary = RotaryTable(config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(
        self,
        token_ids_BT: Tensor,
        cache: LatentCache | None = None,
        tape: Tape | None = None,
        edit: RoutingEdit | None = None,
        last_only: bool = False,
        blocks: Iterable["Block"] | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of the token after each position ([B, 1, V] when only the last one is wanted).

        Args:
            token_ids_BT: the new tokens.
            cache: what earlier ones left.
            tape: where the probe points write.
            edit: a change to the routing.
            last_only: whether only the last position's logits are wanted.
            blocks: what to run in place of the model's own blocks, each used once and in order.
        """
        x_BTD = self.hidden(token_ids_BT, cache, tape, edit, blocks)
        return self.logits(x_BTD[:, -1:] if last_only else x_BTD)

    def hidden(
        self,
        token_ids_BT: Tensor,
        cache: LatentCache | None = None,
        tape: Tape | None = None,
        edit: RoutingEdit | None = None,
        blocks: Iterable["Block"] | None = None,
    ) -> Tensor:
        """The residual stream after the last layer, before the final norm, [B, T, D]."""
        start = cache.length if cache is not None else 0
        num_new = token_ids_BT.shape[1]
        rotations_TR = self.rotary(start, start + num_new)
        x_BTD, selection = self.embedding(token_ids_BT), None
        for block in self.blocks if blocks is None else blocks:
            x_BTD, selection = block(x_BTD, rotations_TR, cache, tape, edit, selection)
        if cache is not None:
            cache.advance(num_new)
        return x_BTD

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Final norm and output head."""
        weight_VD = self.embedding.weight if self.head is None else self.head.weight
        return F.linear(self.norm(x_BTD), weight_VD)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, std: float = 0.02) -> None:
        """Draw every matrix from a normal distribution; norms are one and biases zero.

        Matrices that write to the residual stream are drawn narrower by the square root of twice the number of layers,
        so that its variance does not grow with depth.
        """
        narrow = std / (2 * self.config.num_layers) ** 0.5
        for name, tensor in self.named_parameters():
            if name.endswith("norm.weight"):
                tensor.fill_(1.0)
            elif name.endswith("bias"):
                tensor.zero_()
            else:
                writes_residual = name.endswith(("output.weight", "down.weight", "experts.down"))
                tensor.normal_(0.0, narrow if writes_residual and "_down" not in name else std, generator=generator)
        for router in self.routers():
            router.expert_bias.zero_()

    def block(self, layer: int) -> Block:
        """The block of a layer."""
        block = self.blocks[layer]
        assert isinstance(block, Block)
        return block

    def routers(self) -> list[Router]:
        """The routers of the mixture layers, in the order of `config.moe_layers`."""
        return [block.ffn.router for block in self.blocks if isinstance(block.ffn, MixtureOfExperts)]

    def experts(self) -> list[Experts]:
        """The routed experts of the mixture layers, in the order of `config.moe_layers`."""
        return [block.ffn.experts for block in self.blocks if isinstance(block.ffn, MixtureOfExperts)]
