"""The own network as the source of a sweep: batches of padded windows, with a small tape.

Causal attention never reads a later position, so padding after a window does not change its decisions.

Shape suffixes: B windows of a batch, T positions, D model width, V vocabulary, N tokens of all windows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.checkpoint.tokenizer import Tokenizer
from model.network.edit import RoutingEdit
from model.run.engine import Engine
from model.sweep.settings import SweepError
from model.sweep.source import Decisions
from model.sweep.tape import SweepTape
from model.sweep.windows import Window

_LOGITS = 1 << 22  # largest number of logits that are computed at a time


class NetworkSource:
    """See `model.sweep.source.Source`."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, bits: bool) -> None:
        """Use a loaded engine; `bits` also computes the probability of each token.

        Raises:
            SweepError: the weights do not fit in memory.
        """
        if engine.disk is not None:
            raise SweepError(
                f"{engine.name} does not fit in memory, so each batch would read all weights again; sweep it with the "
                "engine that serves it, or with --dtype bfloat16"
            )
        config = engine.config
        self.tokenizer, self.layers, self.num_experts = tokenizer, tuple(config.moe_layers), config.num_experts
        self.top_k, self.vocab_size, self.context = config.top_k, config.vocab_size, engine.context
        self.capture: frozenset[str] = frozenset({"weights", "margins", "norms", *(["bits"] if bits else [])})
        self._engine, self._bits = engine, bits
        self.edit: RoutingEdit | None = None  # a changed routing of every batch; None: as trained

    @property
    def description(self) -> Mapping[str, Any]:
        return self._engine.description

    @property
    def origin(self) -> Mapping[str, Any]:
        return {
            "source": "network",
            "device": self._engine.device.type,
            "dtype": str(self._engine.dtype).removeprefix("torch."),
        }

    @torch.inference_mode()
    def decisions(self, windows: Sequence[Window]) -> Decisions:
        model, device = self._engine.model, self._engine.device
        lengths = [len(window.token_ids) for window in windows]
        longest = max(2, *lengths)  # a pass over a single token sends no outputs of experts
        padded = np.zeros((len(windows), longest), np.int64)
        for row, window in enumerate(windows):
            padded[row, : lengths[row]] = window.token_ids
        token_ids_BT = torch.from_numpy(padded).to(device)
        tape = SweepTape(model.routers())
        hidden_BTD = model.hidden(token_ids_BT, tape=tape, edit=self.edit)
        real = torch.from_numpy(np.arange(longest) < np.array(lengths)[:, None]).flatten()
        ids, weights, margins, norms = (part[real].numpy() for part in tape.arrays())
        bits = self._bits_of(hidden_BTD, token_ids_BT).cpu().flatten()[real].numpy() if self._bits else None
        return Decisions(ids, weights, margins, norms, bits)

    def _bits_of(self, hidden_BTD: Tensor, token_ids_BT: Tensor) -> Tensor:
        """Return -log2 of each token's probability, [B, T]; NaN at the first position."""
        bits_BT = torch.full(token_ids_BT.shape, torch.nan, dtype=torch.float32, device=token_ids_BT.device)
        step = max(1, _LOGITS // self.vocab_size)
        for row in range(len(token_ids_BT)):
            for start in range(0, token_ids_BT.shape[1] - 1, step):
                next_T = token_ids_BT[row, start + 1 : start + 1 + step]
                logits_TV = self._engine.model.logits(hidden_BTD[row, start : start + len(next_T)]).float()
                chosen_T = logits_TV.gather(-1, next_T.to(logits_TV.device)[:, None])[:, 0]
                nats_T = logits_TV.logsumexp(-1) - chosen_T
                bits_BT[row, start + 1 : start + 1 + step] = nats_T.to(bits_BT.device) / math.log(2)
        return bits_BT
