"""Multi-token prediction: one more layer that drafts the token after the next one.

At position i it joins what the model knows so far (its hidden state) with the token that follows (its embedding), runs
one ordinary layer over the result, and shares the model's embedding and output head. The layer is numbered after the
last ordinary one and has a cache of its own; positions keep their numbers.

Shape suffixes: B batch, T new positions, D model width, R rope head width.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 2.2, with depth 1 as released.
"""

import torch
from torch import Tensor, nn

from model.network.block import Block
from model.network.cache import LatentCache
from model.network.config import ModelConfig
from model.network.tape import Tape


class MultiTokenPredictor(nn.Module):
    """The module of depth 1.

    Two things the report leaves open or says otherwise than the released weights:

    - The joining matrix reads the *embedding first*. Equation 21 writes the hidden state first; the released weights
      work the other way round, as serving engines and Megatron found independently.
    - Whether the hidden state is taken before or after the model's final norm is contested. transformers, vLLM and
      SGLang take it after (and vLLM accepts more drafts so), torchtitan and llama.cpp before. A norm after a norm would
      change nothing but for the final norm's weights per channel, so the two are not the same. It is an explicit choice
      (`ModelConfig.mtp_reads_normed`), after the norm unless a configuration says otherwise.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.embedding_norm = nn.RMSNorm(hidden, eps=config.norm_eps)
        self.hidden_norm = nn.RMSNorm(hidden, eps=config.norm_eps)
        self.join = nn.Linear(2 * hidden, hidden, bias=False)
        self.block = Block(config, config.num_layers)
        self.norm = nn.RMSNorm(hidden, eps=config.norm_eps)

    def forward(
        self,
        hidden_BTD: Tensor,
        embedded_BTD: Tensor,
        rotations_TR: Tensor,
        cache: LatentCache | None = None,
        tape: Tape | None = None,
    ) -> Tensor:
        """The state [B, T, D] that the output head turns into logits of the token after the next.

        Args:
            hidden_BTD: the model's state, before or after its final norm as the configuration says.
            embedded_BTD: the embedding of the token after each position.
            rotations_TR: of the positions.
            cache: of this layer alone.
            tape: where the layer's probe points write, under its own number.
        """
        both_BTD = torch.cat([self.embedding_norm(embedded_BTD), self.hidden_norm(hidden_BTD)], dim=-1)
        x_BTD, _ = self.block(self.join(both_BTD), rotations_TR, cache, tape, None, None)
        return self.norm(x_BTD)
