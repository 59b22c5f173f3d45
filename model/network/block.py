"""One layer: attention, then a dense feed-forward block or an MoE; both add to the residual stream.

Shape suffixes: B batch, T new positions, D model width, R rope head width.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 2.1.
"""

from torch import Tensor, nn

from model.network.attention import Attention
from model.network.cache import LatentCache
from model.network.config import ModelConfig
from model.network.decision import Selection
from model.network.edit import RoutingEdit
from model.network.layers import FeedForward
from model.network.moe import MixtureOfExperts
from model.network.tape import Tape


class Block(nn.Module):
    """Attention, then a dense feed-forward block or an MoE; each adds its output to the residual stream."""

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
        """Return the residual stream after the layer, [B, T, D], and the selection that its attention used."""
        if tape is not None:
            tape.layer_input(self.layer, x_BTD)
        mixed_BTD, selection = self.attention(self.attention_norm(x_BTD), rotations_TR, cache, tape, selection)
        x_BTD = x_BTD + mixed_BTD
        if tape is not None:
            tape.attention_output(self.layer, x_BTD)
        normed_BTD = self.ffn_norm(x_BTD)
        if isinstance(self.ffn, MixtureOfExperts):
            x_BTD = x_BTD + self.ffn(normed_BTD, tape, edit and edit.of(self.layer))
        else:
            x_BTD = x_BTD + self.ffn(normed_BTD)
        if tape is not None:
            tape.layer_output(self.layer, x_BTD)
        return x_BTD, selection
