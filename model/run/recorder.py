"""The tape of a run: collects the tensors of the probe points, and moves them to the host once per step.

`model/network/tape.py` defines the probe points.

Shape suffixes: B batch (always 1), T new positions, S positions so far, H heads, Q query head width, D model width,
E experts, K rank, V vocabulary, L layers.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from model.network.attention import attention_weights
from model.network.config import ModelConfig
from model.network.decision import Routing, Selection
from model.run.predictions import Predictions
from model.run.request import Capture


class Recorder:
    """The `model.network.tape.Tape` of one run; `take` returns and removes its tensors after each forward pass."""

    def __init__(self, config: ModelConfig, capture: Capture) -> None:
        self.config, self.capture = config, capture
        self.attention_layers = _chosen(capture.layers, config.num_layers)
        self.heads = _chosen(capture.heads, config.num_heads)
        self.indexer_layers = tuple(sorted(set(config.indexer_layers) & set(self.attention_layers)))
        self._predictions = Predictions(keep_logits="logits" in capture.variables)
        self._clear()

    def _clear(self) -> None:
        # By model layer number, in order.
        self._inputs: dict[int, Tensor] = {}
        self._embedding: dict[int, Tensor] = {}  # norm of the first layer's input
        self._attended: dict[int, Tensor] = {}  # norm of the residual stream after attention
        self._outputs: dict[int, Tensor] = {}
        self._attention: dict[int, Tensor] = {}
        self._routing: dict[int, Routing] = {}
        self._selections: dict[int, Selection] = {}

    def layer_input(self, layer: int, residual_BTD: Tensor) -> None:
        if layer == 0:
            self._embedding[layer] = _norm(residual_BTD[0])
        if "inputs" in self.capture.variables:
            self._inputs[layer] = residual_BTD[0]

    def attention_output(self, layer: int, residual_BTD: Tensor) -> None:
        self._attended[layer] = _norm(residual_BTD[0])

    def layer_output(self, layer: int, residual_BTD: Tensor) -> None:
        self._outputs[layer] = residual_BTD[0]

    def attention(
        self, layer: int, query_BHTQ: Tensor, key_BHSQ: Tensor, scale: float, selection: Selection | None
    ) -> None:
        if "attention" in self.capture.variables and layer in self.attention_layers:
            heads = list(self.heads)
            key_BHSQ = key_BHSQ if key_BHSQ.shape[1] == 1 else key_BHSQ[:, heads]
            self._attention[layer] = attention_weights(query_BHTQ[:, heads], key_BHSQ, scale, selection)[0]

    def selection(self, layer: int, selection: Selection) -> None:
        if "indexer" in self.capture.variables and layer in self.indexer_layers:
            self._selections[layer] = selection

    def routing(self, layer: int, routing: Routing) -> None:
        if "router" in self.capture.variables:
            self._routing[layer] = routing

    def expert_outputs(self, layer: int, outputs_ND: Tensor, order_N: Tensor) -> None:
        """Record nothing: a trace holds no outputs of experts."""

    @property
    def _tensors(self) -> dict[str, dict[int, Tensor]]:
        return {
            "input": self._inputs, "embedding": self._embedding, "attended": self._attended, "output": self._outputs,
            "attention": self._attention,
        }  # fmt: skip

    def of_layer(self, layer: int) -> dict[str, Tensor]:
        """Return the tensors that were recorded in a layer in this forward pass, by name, for `restore`."""
        recorded = {name: by_layer[layer] for name, by_layer in self._tensors.items() if layer in by_layer}
        for name, by_layer in (("routing", self._routing), ("indexer", self._selections)):
            if layer in by_layer:
                recorded |= {f"{name}.{field}": part for field, part in by_layer[layer]._asdict().items()}
        return recorded

    def restore(self, layer: int, recorded: Mapping[str, Tensor]) -> None:
        """Record the tensors that `of_layer` returned in an earlier pass over the same tokens."""
        for name, by_layer in self._tensors.items():
            if name in recorded:
                by_layer[layer] = recorded[name]
        if f"routing.{Routing._fields[0]}" in recorded:
            self._routing[layer] = Routing(*(recorded[f"routing.{field}"] for field in Routing._fields))
        if f"indexer.{Selection._fields[0]}" in recorded:
            self._selections[layer] = Selection(*(recorded[f"indexer.{field}"] for field in Selection._fields))

    def last_experts(self) -> np.ndarray | None:
        """Return the experts of the last token in this forward pass, [L, K]; None if routing is not captured."""
        if not self._routing:
            return None
        last = [Routing(*(part[-1:] for part in routing)) for routing in self._routing.values()]
        return _routing_arrays(last)["expert_id"][0]

    def drop_last(self) -> None:
        """Drop the rejected draft token of the last forward pass."""
        for by_layer in (self._inputs, self._embedding, self._attended, self._outputs):
            by_layer.update({layer: rows[:-1] for layer, rows in by_layer.items()})
        self._attention = {layer: weights[:, :-1, :-1] for layer, weights in self._attention.items()}
        self._routing = {layer: Routing(*(part[:-1] for part in parts)) for layer, parts in self._routing.items()}
        self._selections = {
            layer: Selection(chosen.scores_BTS[:, :-1, :-1], chosen.key_ids_BTK[:, :-1], chosen.kept_BTS[:, :-1, :-1])
            for layer, chosen in self._selections.items()
        }

    def take(self, token_ids: list[int], logits: Iterable[Tensor]) -> dict[str, np.ndarray]:
        """Return the trace variables of the tokens in this forward pass, by name, and remove the recorded tensors.

        Args:
            token_ids: the tokens in this forward pass.
            logits: logits of the tokens, in blocks [T, V]; each block is freed before the next block is computed.
        """
        arrays = {"token_id": np.array(token_ids, dtype=np.int32)}
        arrays["residual_norm"] = _host(_norm(_stacked(self._outputs, 1)))
        if len(self._attended) == len(self._outputs):  # layers restored from an older version lack these
            arrays["embedding_norm"] = _host(self._embedding[0])
            arrays["attention_residual_norm"] = _host(_stacked(self._attended, 1))
        arrays |= self._predictions.take(token_ids, logits)
        if self._routing:
            arrays |= _routing_arrays(list(self._routing.values()))
        if self._attention:
            arrays["attention"] = _host(_stacked(self._attention, 0))
        if self._selections:
            chosen = list(self._selections.values())
            arrays["indexer_score"] = _host(_together([one.scores_BTS[0] for one in chosen], 0))
            arrays["indexer_kept"] = _host(_together([one.kept_BTS[0] for one in chosen], 0))
        if self._inputs:
            arrays["layer_input"] = bits(_stacked(self._inputs, 1))
        self._clear()
        return arrays


def _routing_arrays(routings: list[Routing]) -> dict[str, np.ndarray]:
    """Return the decisions of all layers, [T, L, ...]; ranks are sorted by gate weight, and by expert id in a tie."""
    scores, groups, kept, ids, weights = (_host(_together(part, 1)) for part in zip(*routings, strict=True))
    by_weight = np.lexsort((ids, -weights), axis=-1)
    return {
        "router_score": scores,
        "group_score": groups,
        "group_kept": kept,
        "expert_id": np.take_along_axis(ids, by_weight, -1).astype(np.int16),
        "gate_weight": np.take_along_axis(weights, by_weight, -1),
    }


# Variables with one row of keys per token -> the value for later keys.
_BY_KEY = {"attention": 0.0, "indexer_score": -np.inf, "indexer_kept": False}


def join_steps(steps: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the joined arrays of the steps of a run; variables with a key axis are padded to [..., tokens, tokens]."""
    names = [name for name in steps[0] if name not in _BY_KEY]
    joined = {name: np.concatenate([step[name] for step in steps]) for name in names}
    for name in _BY_KEY.keys() & steps[0].keys():
        joined[name] = _square([step[name] for step in steps], _BY_KEY[name])
    return joined


def _square(parts: list[np.ndarray], filler: float | bool) -> np.ndarray:
    """Return one array [..., tokens, tokens] from parts [..., queries of a step, keys so far], padded with `filler`."""
    num_tokens = parts[-1].shape[-1]
    square = np.full((*parts[0].shape[:-2], num_tokens, num_tokens), filler, dtype=parts[0].dtype)
    row = 0
    for part in parts:
        rows, keys = part.shape[-2:]
        square[..., row : row + rows, :keys] = part
        row += rows
    return square


def _chosen(numbers: tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    return tuple(range(count)) if numbers is None else tuple(sorted(set(numbers)))


def _norm(residual: Tensor) -> Tensor:
    """Return the Euclidean norm over the width, in fp32."""
    return residual.float().norm(dim=-1)


def _stacked(by_layer: dict[int, Tensor], dim: int) -> Tensor:
    return _together(list(by_layer.values()), dim)


def _together(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Return the parts stacked on the device of the first part, because layers may be on several devices."""
    return torch.stack([part.to(parts[0].device) for part in parts], dim)


def _host(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


def bits(tensor: Tensor) -> np.ndarray:
    """Return a tensor as an array: bfloat16 as its bits in uint16, because numpy lacks bfloat16; others as float32."""
    if tensor.dtype == torch.bfloat16:
        return _host(tensor.view(torch.uint16))
    return _host(tensor.float())
