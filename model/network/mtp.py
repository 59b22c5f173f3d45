"""Multi-token prediction: an extra layer that drafts the token after the next one.

At each position, the module joins the model's hidden state with the embedding of the next token, and runs one ordinary
layer on the result. It shares the embedding and the output head of the model. Its layer is numbered after the model's
last layer and has a cache of its own. Queries and keys are rotated by the position of the hidden state, not by that of
the next token.

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
    """The multi-token-prediction module of depth 1.

    The report differs from the released weights on one point, and is silent on another:

    - The joining matrix reads the *embedding first*. Equation 21 writes the hidden state first; the released weights
      need the embedding first, as serving engines and Megatron found independently.
    - The report does not say whether the hidden state is taken before or after the model's final norm. transformers,
      vLLM and SGLang take it after the norm (vLLM then accepts more drafts), torchtitan and llama.cpp before the norm.
      The two states differ by the channel weights of the final norm only, because `hidden_norm` normalises either.
      `ModelConfig.mtp_reads_normed` decides; the default is after the norm.
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
        """Return the state [B, T, D] from which the output head computes logits of the token after the next.

        Args:
            hidden_BTD: the model's hidden state, after its final norm if `config.mtp_reads_normed`, else before it.
            embedded_BTD: the embedding of the token after each position.
            rotations_TR: rotations of the positions of `hidden_BTD`.
            cache: the cache of this layer alone.
            tape: receives the tensors at the layer's probe points, under the layer's number.
        """
        both_BTD = torch.cat([self.embedding_norm(embedded_BTD), self.hidden_norm(hidden_BTD)], dim=-1)
        x_BTD, _ = self.block(self.join(both_BTD), rotations_TR, cache, tape, None, None)
        return self.norm(x_BTD)
