"""A model that transformers runs as the source of a sweep: one window at a time, with the tape of its family.

Margins and norms of experts' outputs are not there: the hooks see neither the scores of every family nor its experts.

Shape suffixes: N tokens of all windows, T tokens of one, L MoE layers, K selected experts.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from model.checkpoint.tokenizer import Tokenizer
from model.families.engine import TransformersEngine
from model.families.probed import fed
from model.families.tape import Tape
from model.sweep.settings import SweepError
from model.sweep.source import Decisions
from model.sweep.windows import Window


class FamilySource:
    """See `model.sweep.source.Source`."""

    def __init__(self, engine: TransformersEngine, tokenizer: Tokenizer, bits: bool) -> None:
        """Use a loaded engine; `bits` also keeps the probability of each token.

        Raises:
            SweepError: the weights wait on the disk.
        """
        if engine.offloaded:
            raise SweepError(
                f"{engine.name} does not fit in memory, so each window would read all weights again; sweep it with the "
                "engine that serves it, or with --dtype bfloat16"
            )
        shape = engine.shape
        self.tokenizer, self.layers, self.num_experts = tokenizer, tuple(shape.moe_layers), shape.num_experts
        self.top_k, self.vocab_size, self.context = shape.top_k, shape.vocab_size, engine.context
        self.capture: frozenset[str] = frozenset({"weights", *(["bits"] if bits else [])})
        self._engine, self._bits = engine, bits

    @property
    def description(self) -> Mapping[str, Any]:
        return self._engine.description

    @property
    def origin(self) -> Mapping[str, Any]:
        dtype = str(self._engine.dtype).removeprefix("torch.")
        return {"source": "transformers", "device": self._engine.device.type, "dtype": dtype}

    @torch.inference_mode()
    def decisions(self, windows: Sequence[Window]) -> Decisions:
        parts = [self._window(window) for window in windows]
        ids, weights, bits = (np.concatenate(values) for values in zip(*parts, strict=True))
        return Decisions(ids, weights, bits_N=bits if self._bits else None)

    def _window(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ids [T, L, K], gate weights [T, L, K] and bits [T] of one window."""
        token_ids_T = torch.from_numpy(window.token_ids).to(self._engine.device)
        tape = Tape(norms=False)
        with tape.running():
            logits_TV = fed(self._engine.model, token_ids_T).logits[0]
        routing = tape.take().routing
        paths = [self._engine.probed.paths[layer] for layer in self.layers]
        ids = torch.stack([routing[path].ids_TK for path in paths], 1).long()
        weights = torch.stack([routing[path].weights_TK.float() for path in paths], 1)
        ids, order = ids.sort(-1)
        bits = np.full(len(token_ids_T), np.nan, np.float32)
        if self._bits and len(token_ids_T) > 1:
            logits_TV, next_T = logits_TV[:-1].float(), token_ids_T[1:].to(logits_TV.device)
            nats = logits_TV.logsumexp(-1) - logits_TV.gather(-1, next_T[:, None])[:, 0]
            bits[1:] = (nats / math.log(2)).cpu().numpy()
        return ids.numpy(), weights.gather(-1, order).numpy(), bits
