"""The cache of multi-head latent attention: one latent vector per token and layer.

A cache belongs to one run and is passed to `forward`; the model itself never changes. All sequences in a cache have the
same length. Models with sparse attention also cache one index key per token and layer with an indexer.

Shape suffixes: B batch, T new positions, S cached positions, C key-value latent width, R rope head width, I index head
width.

Source: DeepSeek-V2 report (arXiv 2405.04434), section 2.1.2; index keys DeepSeek-V3.2-Exp report (2025), section 2.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from model.network.config import ModelConfig


class LatentCache:
    """Normalised latent and rotated position key of every token, side by side: C + R values per token and layer.

    Attributes:
        length: number of cached tokens per sequence.
        capacity: largest number of tokens per sequence.
    """

    def __init__(
        self,
        config: ModelConfig,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype,
        layers: Iterable[int] | None = None,
        num_sequences: int = 1,
    ) -> None:
        """Allocate memory for `capacity` tokens per sequence in each of `layers`; None: all but the MTP layer."""
        width = config.kv_lora_rank + config.rope_head_dim
        self.length = 0
        self._row = {layer: row for row, layer in enumerate(range(config.num_layers) if layers is None else layers)}
        # One tensor per layer, because layers may be on different devices.
        self.latents = [torch.empty(num_sequences, capacity, width, device=device, dtype=dtype) for _ in self._row]
        with_indexer = [layer for layer in self._row if config.has_indexer(layer)]
        self._index_row = {layer: row for row, layer in enumerate(with_indexer)}
        shape = (num_sequences, capacity, config.index_head_dim)
        self.index_keys = [torch.empty(shape, device=device, dtype=dtype) for _ in self._index_row]
        self.capacity = capacity

    def extend(self, layer: int, latent_BTC: Tensor) -> Tensor:
        """Store the latents of new tokens, [B, T, C + R], and return all latents of the layer, [B, S, C + R]."""
        return self._append(self.latents, self._row[layer], latent_BTC)

    def extend_index(self, layer: int, key_BTI: Tensor) -> Tensor:
        """Store the index keys of new tokens, [B, T, I], and return all index keys of the layer, [B, S, I]."""
        return self._append(self.index_keys, self._index_row[layer], key_BTI)

    def _append(self, rows: list[Tensor], row: int, new: Tensor) -> Tensor:
        rows[row] = stored = rows[row].to(new.device)  # moved once, to the device of its layer
        end = self.length + new.shape[1]
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens, not {end}")
        stored[:, self.length : end] = new
        return stored[:, :end]

    def advance(self, num_tokens: int) -> None:
        """Add the tokens of a forward pass to `length`; call it after all layers have stored their latents."""
        self.length += num_tokens

    def take_back(self, num_tokens: int) -> None:
        """Remove the last `num_tokens` tokens of every sequence, for example a rejected draft token."""
        self.length -= num_tokens

    @property
    def bytes_per_token(self) -> int:
        """Cached bytes of one token, summed over all layers."""
        return sum(part.shape[2] * part.element_size() for part in (*self.latents, *self.index_keys))
