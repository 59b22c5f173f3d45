"""The whole network: embedding, blocks, final norm, output head.

It differs from a plain transformer in two parts: its attention reads latents (attention.py), and all layers but the
first few are MoE layers (moe.py). Everything that changes during a run (cache, tape, edit) is an argument; a run does
not change the model. mtp.py has the module that drafts the token after the next one.

Shape suffixes: B batch, T new positions, D model width, V vocabulary, R rope head width.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 2.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.block import Block
from model.network.cache import LatentCache
from model.network.config import ModelConfig
from model.network.edit import RoutingEdit
from model.network.layers import RotaryTable
from model.network.moe import Experts, MixtureOfExperts, Router
from model.network.mtp import MultiTokenPredictor
from model.network.tape import Tape


class Transformer(nn.Module):
    """A model of the DeepSeek-V3 family. Its weights are undefined until they are loaded or `initialise` is called."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.rotary = RotaryTable(config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.mtp = MultiTokenPredictor(config) if config.has_mtp else None

    def forward(
        self,
        token_ids_BT: Tensor,
        cache: LatentCache | None = None,
        tape: Tape | None = None,
        edit: RoutingEdit | None = None,
        last_only: bool = False,
        blocks: Iterable[Block] | None = None,
    ) -> Tensor:
        """Return the logits [B, T, V] of the token after each position, or [B, 1, V] with `last_only`.

        Args:
            token_ids_BT: the new tokens.
            cache: holds the latents of earlier tokens; the latents of the new tokens are appended.
            tape: receives the tensors at the probe points.
            edit: the changes to the routing; None: as trained.
            last_only: compute only the logits of the last position.
            blocks: blocks to run in place of the model's own, each once and in order.
        """
        x_BTD = self.hidden(token_ids_BT, cache, tape, edit, blocks)
        return self.logits(x_BTD[:, -1:] if last_only else x_BTD)

    def hidden(
        self,
        token_ids_BT: Tensor,
        cache: LatentCache | None = None,
        tape: Tape | None = None,
        edit: RoutingEdit | None = None,
        blocks: Iterable[Block] | None = None,
    ) -> Tensor:
        """Return the residual stream after the last layer, before the final norm, [B, T, D]."""
        start = cache.length if cache is not None else 0
        num_new = token_ids_BT.shape[1]
        rotations_TR = self.rotary(start, start + num_new)
        x_BTD, selection, edit = self.embedding(token_ids_BT), None, edit and edit.after(start)
        for block in self.blocks if blocks is None else blocks:
            x_BTD, selection = block(x_BTD, rotations_TR, cache, tape, edit, selection)
        if cache is not None:
            cache.advance(num_new)
        return x_BTD

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Return the logits [B, T, V]: the final norm and the output head, applied to the residual stream."""
        return self._project(self.norm(x_BTD))

    def draft_states(
        self, x_BTD: Tensor, next_ids_BT: Tensor, cache: LatentCache | None = None, tape: Tape | None = None
    ) -> Tensor:
        """Return the state from which the output head computes logits of the token after the next, [B, T, D].

        The model must have a multi-token-prediction module.

        Args:
            x_BTD: the residual stream from `hidden`, at positions whose next tokens are known.
            next_ids_BT: the token after each position.
            cache: the cache of the module's own layer.
            tape: receives the tensors at the probe points of that layer.
        """
        assert self.mtp is not None
        start, num_new = cache.length if cache is not None else 0, x_BTD.shape[1]
        source_BTD = self.norm(x_BTD) if self.config.mtp_reads_normed else x_BTD
        rotations_TR = self.rotary(start, start + num_new)
        state_BTD: Tensor = self.mtp(source_BTD, self.embedding(next_ids_BT), rotations_TR, cache, tape)
        if cache is not None:
            cache.advance(num_new)
        return state_BTD

    def draft_logits(self, x_BTD: Tensor, next_ids_BT: Tensor, cache: LatentCache | None = None) -> Tensor:
        """Return the logits [B, T, V] of the token after the next one; see `draft_states`."""
        return self._project(self.draft_states(x_BTD, next_ids_BT, cache))

    def _project(self, state_BTD: Tensor) -> Tensor:
        return F.linear(state_BTD.to(self.head_weight.device), self.head_weight)

    @property
    def head_weight(self) -> Tensor:
        """The matrix of the output head, [V, D]; in a model with tied embeddings, the embedding matrix."""
        return self.embedding.weight if self.head is None else self.head.weight

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, std: float = 0.02) -> None:
        """Draw every matrix from a normal distribution; set norms to one and biases to zero.

        Matrices that write to the residual stream have a standard deviation smaller by the square root of twice the
        number of layers, so that the stream's variance does not grow with depth.
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
        for module in self.modules():
            if isinstance(module, Router):
                module.expert_bias.zero_()

    def block(self, layer: int) -> Block:
        """Return the block of a layer, by model layer number."""
        block = self.blocks[layer]
        assert isinstance(block, Block)
        return block

    def routers(self) -> list[Router]:
        """Return the routers of the MoE layers, in the order of `config.moe_layers`."""
        return [moe.router for moe in self._moe_layers()]

    def experts(self) -> list[Experts]:
        """Return the routed experts of the MoE layers, in the order of `config.moe_layers`."""
        return [moe.experts for moe in self._moe_layers()]

    def _moe_layers(self) -> list[MixtureOfExperts]:
        return [block.ffn for block in self.blocks if isinstance(block.ffn, MixtureOfExperts)]
