"""Evaluations during training: bits per byte of held-out text by stream, and the routing of a fixed text.

The fixed text is the beginning of each held-out stream. Comparing its routing at an evaluation with its routing at the
last evaluation shows how early a router settled (saturation).

Source: OLMoE (arXiv 2409.02060), section 5, on router saturation.
"""

from pathlib import Path
from typing import Any

import torch

from model.checkpoint.tokenizer import Tokenizer
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.train.evaluation.context import by_position, first_context, read_long
from model.train.evaluation.heldout import evaluate, read_pieces
from model.train.tapes import RoutingTape

PROBE_TOKENS = 8  # tokens of each stream in the fixed text
LONG_TEXTS = 6


class Evaluator:
    """Evaluates a model on held-out text; the text is read from its files only once."""

    def __init__(
        self, heldout: Path, tokenizer: Tokenizer, window: int, bytes_per_stream: int, shape: ModelConfig
    ) -> None:
        """Read the streams of a held-out folder.

        Raises:
            CorpusError: the folder holds no stream, or an empty stream.
        """
        self.streams, self.pieces = read_pieces(heldout, tokenizer, window, bytes_per_stream)
        first = {piece.stream: piece for piece in reversed(self.pieces)}
        extended = first_context(shape) < window
        self._window, self._long = window, read_long(heldout, tokenizer, window, 1)[:LONG_TEXTS] if extended else []
        self._probe = [first[stream].token_ids[: 1 + PROBE_TOKENS] for stream in sorted(first)]

    def evaluate(self, model: Transformer) -> dict[str, Any]:
        """Return the values of an evaluation for the log.

        `heldout`: bits per byte by stream. `probe`: MoE layer -> for each token of the fixed text the ids of its
        experts, ascending. `positions`: bits per byte of a few long texts by position (context.py); missing if no text
        is long enough, or if the windows fit in the context that the model had before YaRN extended it.
        """
        bits = evaluate(model, self.streams, self.pieces, progress=False).bits_per_byte()
        rounded = {name: round(value, 4) for name, value in bits.items()}
        results = {"heldout": rounded, "probe": self._routing(model)}
        return results | ({"positions": by_position(model, self._long, self._window)} if self._long else {})

    @torch.inference_mode()
    def _routing(self, model: Transformer) -> dict[str, list[list[int]]]:
        device, by_layer = model.embedding.weight.device, {str(layer): [] for layer in model.config.moe_layers}
        for token_ids in self._probe:
            tape = RoutingTape()
            model.hidden(torch.tensor([token_ids], device=device), tape=tape)
            for experts, routing in zip(by_layer.values(), tape.routings, strict=True):
                experts.extend(sorted(ids) for ids in routing.expert_ids_TK[1:].tolist())  # without BOS
        return by_layer
