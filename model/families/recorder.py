"""Turns what the tape of a run recorded into the variables of a trace.

Shape suffixes: T tokens of a forward pass, S tokens so far, C columns of the router, K selected, L routing blocks,
H heads, G groups.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from model.families.found import float_array
from model.families.probed import Probed
from model.families.rule import holds
from model.families.tape import Edit, Pass, RawRouting, Tape
from model.run.predictions import Predictions
from model.run.recorder import bits
from model.run.request import Capture


class FamilyRecorder:
    """The tape of one run, and the arrays of each of its forward passes.

    Attributes:
        tape: give it to the model by `tape.running()` in each forward pass.
        attention_layers, heads: the layers and heads whose attention is recorded, ascending.
    """

    def __init__(self, probed: Probed, capture: Capture, edits: Mapping[str, Edit]) -> None:
        layers = sorted(probed.attention if capture.layers is None else capture.layers)
        self.attention_layers = tuple(layers) if "attention" in capture.variables else ()
        self.heads = tuple(range(probed.layout.num_heads)) if capture.heads is None else tuple(sorted(capture.heads))
        self.tape = Tape(
            edits=edits,
            attention=frozenset(probed.attention[layer] for layer in self.attention_layers),
            routing="router" in capture.variables,
            inputs="inputs" in capture.variables,
        )
        self._routings: dict[str, list[RawRouting]] = {}  # by block without an edit, one per pass
        self._token_ids: list[int] = []
        self._probed, self._edited = probed, frozenset(edits)
        self._predictions = Predictions(keep_logits="logits" in capture.variables)

    def take(self, token_ids: list[int], logits: Iterable[Tensor]) -> dict[str, np.ndarray]:
        """Return the trace variables of the tokens of the last forward pass, by name.

        Args:
            token_ids: the tokens of the pass.
            logits: their logits, in blocks [T, V].
        """
        begin = self.tape.position
        recorded = self.tape.take()
        self.tape.position = begin + len(token_ids)  # also if the pass reached no block
        arrays = {"token_id": np.array(token_ids, dtype=np.int32)}
        norms = [recorded.norms[layer] for layer in range(self._probed.layout.num_layers)]
        arrays["residual_norm"] = torch.stack(norms, 1).numpy()
        if recorded.embedding_norm is not None:
            arrays["embedding_norm"] = recorded.embedding_norm.numpy()
        arrays |= self._predictions.take(token_ids, logits)
        if recorded.routing:
            arrays |= self._routing(recorded, token_ids)
        if self.attention_layers:
            arrays["attention"] = self._attention(recorded, self.tape.position)
        if recorded.inputs:
            rows = [recorded.inputs[layer] for layer in range(self._probed.layout.num_layers)]
            arrays["layer_input"] = bits(torch.stack(rows, 1))
        return arrays

    def _routing(self, recorded: Pass, token_ids: list[int]) -> dict[str, np.ndarray]:
        """Return the decisions of all blocks, [T, L, ...]; ranks are sorted by gate weight, and by id in a tie."""
        blocks = self._probed.blocks.values()
        raws = {block.path: recorded.routing[block.path] for block in blocks}
        ids = np.stack([raws[block.path].ids_TK.numpy().astype(np.int64) for block in blocks], 1)
        weights = np.stack([float_array(raw.weights_TK) for raw in raws.values()], 1)
        by_weight = np.lexsort((ids, -weights), axis=-1)
        arrays = {
            "expert_id": np.take_along_axis(ids, by_weight, -1).astype(np.int16),
            "gate_weight": np.take_along_axis(weights, by_weight, -1),
            "rank_order": by_weight.astype(np.int16),
        }
        logits = [raw.logits_TC for raw in raws.values() if raw.logits_TC is not None]
        if len(logits) == len(raws):
            arrays["router_logit"] = np.stack([float_array(part_TC) for part_TC in logits], 1)
            arrays |= self._by_rule(arrays["router_logit"])
        self._keep(raws, token_ids)
        return arrays

    def _by_rule(self, logits_TLC: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the router's rule makes of its logits."""
        found = self._probed.found
        if found.rule is None:
            return {}
        arrays = {"router_score": found.rule.affinity(logits_TLC)}
        if found.rule.num_groups > 1:
            bias_LC = 0 if found.bias is None else found.bias
            arrays["group_score"] = found.rule.group_scores(
                found.rule.biased(arrays["router_score"], bias_LC, logits_TLC)
            )
            arrays["group_kept"] = found.rule.keep_groups(arrays["group_score"])
        return arrays

    def _keep(self, raws: Mapping[str, RawRouting], token_ids: list[int]) -> None:
        """Keep the routing of blocks without an edit until the end of the run, when `follows_rule` checks it."""
        self._token_ids += token_ids
        for path in raws.keys() - self._edited:
            self._routings.setdefault(path, []).append(raws[path])

    def follows_rule(self) -> bool:
        """Return whether the router's rule gives the experts and weights of the run in every block without an edit."""
        found, ids_T = self._probed.found, torch.tensor(self._token_ids)
        return found.rule is not None and all(
            holds(found, path, _joined(raws), ids_T) for path, raws in self._routings.items()
        )

    def _attention(self, recorded: Pass, num_tokens: int) -> np.ndarray:
        """Return the weights, [layer, H, T, S]; NaN where the tokens of a layer's keys are not known."""
        parts = []
        for layer in self.attention_layers:
            attended = recorded.attention[self._probed.attention[layer]]
            weights_HTS = over_tokens(
                attended.weights_HQS, num_tokens, self._probed.window, layer in self._probed.compressed
            )
            parts.append(weights_HTS[list(self.heads)].numpy())
        return np.stack(parts)


def _joined(raws: Sequence[RawRouting]) -> RawRouting:
    """Return the routing of consecutive passes as one."""
    logits = [raw.logits_TC for raw in raws if raw.logits_TC is not None]
    return RawRouting(
        torch.cat(logits) if len(logits) == len(raws) else None,
        torch.cat([raw.ids_TK for raw in raws]),
        torch.cat([raw.weights_TK for raw in raws]),
    )


def over_tokens(weights_HTS: Tensor, num_tokens: int, window: int | None, is_compressed: bool) -> Tensor:
    """Return attention weights over all tokens so far, [H, T, `num_tokens`]; NaN if the keys' tokens are not known.

    Args:
        weights_HTS: the weights over the keys that the layer kept. In a pass over the whole prompt, these begin with
            all tokens. Later, a layer with a sliding window keeps only its last keys.
        num_tokens: number of tokens so far.
        window: number of keys that a layer with a sliding window keeps; None: not stated.
        is_compressed: whether keys of compressed blocks, which stand for no single token, follow those of tokens
            (DeepSeek-V4).
    """
    num_rows, num_keys = weights_HTS.shape[-2:]
    last = min(num_tokens, window or num_tokens)
    if num_rows == num_tokens and num_keys >= num_tokens or num_keys == num_tokens and not is_compressed:
        return weights_HTS[..., :num_tokens]
    if num_keys == last or is_compressed and num_keys > last:
        return torch.nn.functional.pad(weights_HTS[..., :last], (num_tokens - last, 0))
    return weights_HTS.new_full((*weights_HTS.shape[:-1], num_tokens), torch.nan)
