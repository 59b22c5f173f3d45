"""The importance of each routed expert for a text: knocks out every (layer, expert) once and compares the predictions.

Each number equals that of a plain forward pass with one `KnockOut`, but only parts of the pass are computed:

- Layers before the changed layer are taken from the original run.
- In the changed layer, the router is run with each edit. It shows which tokens the knock-out reroutes, directly or
  because it changes which groups are kept. If it reroutes no token, the effect is exactly zero.
- The experts of the changed layer compute only rerouted tokens, those of all knock-outs in one call.
- In later layers, only the positions from a knock-out's first rerouted token on are computed, several knock-outs as one
  batch. Attention is causal, so earlier positions do not change; their latents are in the cache.

Shape suffixes: T tokens, D model width, E experts, K selected experts, V vocabulary, B knock-outs of a batch,
S positions of a batch, N changed decisions (a knock-out and a token), R rows (a knock-out and a position).
"""

import dataclasses
import threading
from collections.abc import Generator, Iterator, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from model.network.cache import LatentCache
from model.network.decision import Routing, Selection
from model.network.edit import LayerEdit
from model.network.moe import MixtureOfExperts
from model.network.tape import Tape
from model.network.transformer import Transformer
from model.run.engine import Engine
from model.run.interventions import KnockOut
from model.run.request import RequestError, RunRequest
from model.run.routing_edit import routing_edit
from model.run.turns import PASSES

ROWS_AT_ONCE = 1024  # most rows of a batch; larger batches are not faster, and others wait longer
# Largest KL, in nats, for which the second-order term is used. That term uses one covariance for all positions, which
# is at least the mean of each position's own (law of total variance). Compared with KL over the whole vocabulary, the
# error was at most 3e-5 at any position of two texts, and 1e-6 in the mean over positions with a small KL (mini-v3).
SMALL = 2e-5
VALUES_AT_ONCE = 1 << 21  # log-probabilities in memory at once: 8 MB fit in a processor's cache


@dataclasses.dataclass(frozen=True, slots=True)
class Importance:
    """The effects of the knock-outs done so far; *measured* with the expert knocked out.

    Attributes:
        effects: [moe_layer, expert]. `logprob_change`: log p(token) with the knock-out minus without, nats, mean over
            the tokens after the first; negative if the text needs the expert. `kl`: KL(original || changed) of the next
            token's distribution, nats, mean over all positions. Both are NaN until the knock-out is done. `chosen_by`:
            number of tokens that selected the expert in the original run. `rerouted`: number of tokens whose routing in
            this layer changes, 0 until the knock-out is done. `rerouted` can exceed `chosen_by` if groups are limited.
            If a finished knock-out reroutes no token, both effects are exactly 0.
        done: number of finished knock-outs.
        total: number of all knock-outs.
        num_tokens: number of tokens of the text.
    """

    effects: xr.Dataset
    done: int
    total: int
    num_tokens: int


@torch.inference_mode()
def importance(
    engine: Engine, token_ids: Sequence[int], cancel: threading.Event | None = None
) -> Generator[Importance, None, None]:
    """Knock out each expert of each MoE layer, one at a time; yield the effects so far after each batch.

    If `cancel` is set, the generator ends before the next batch. It takes a turn for each batch.
    Errors are raised before the first batch.

    Raises:
        RequestError: the weights stay on the disk, the model has no experts, there are fewer than two tokens, or the
            tokens do not fit the model.
        EditError: a knock-out would leave the router too few experts.
    """
    if engine.disk:
        raise RequestError(f"{engine.name} is read from the disk layer by layer; each knock-out would read it again")
    if not engine.config.moe_layers:
        raise RequestError(f"{engine.name} has no MoE layers, so it has no experts to knock out")
    if len(token_ids) < 2:
        raise RequestError("a prediction to compare needs at least 2 tokens")
    ids, config = engine.encode(RunRequest(token_ids=tuple(token_ids))), engine.config
    edits = {
        layer: [_edit(engine, layer, expert) for expert in range(config.num_experts)] for layer in config.moe_layers
    }
    with PASSES.turn():
        original = _Original(engine.model, torch.tensor([ids], device=engine.device))
    effects = _Effects(original)
    for row, layer in enumerate(config.moe_layers):
        with PASSES.turn():
            changes = _Changes(original, layer, edits[layer])
        effects.untouched(row, changes.counts_E)
        yield effects.so_far()
        for experts in changes.batches():
            if cancel is not None and cancel.is_set():
                return
            with PASSES.turn():
                effects.add(row, experts, *original.compare(*changes.outcome(experts)))
            yield effects.so_far()


def _edit(engine: Engine, layer: int, expert: int) -> LayerEdit:
    edit = routing_edit((KnockOut(layer, expert),), engine.config, engine.device)
    assert edit is not None
    return edit.layers[layer]


class _Original(Tape):
    """The tensors of the original run from which knock-outs start, or with which they are compared."""

    def __init__(self, model: Transformer, token_ids_1T: Tensor) -> None:
        self.model, self.num_tokens = model, token_ids_1T.shape[1]
        self.streams_TD: list[Tensor] = []  # the input of each layer, then the output of the last
        self.routings: dict[int, Routing] = {}
        self._selections: dict[int, Selection] = {}
        weight = model.embedding.weight
        self._cache = LatentCache(model.config, self.num_tokens, weight.device, weight.dtype)
        x_BTD = model.hidden(token_ids_1T, self._cache, self)
        self.streams_TD.append(x_BTD[0])
        self.rotations_TR = model.rotary(0, self.num_tokens)
        self._next_ids = token_ids_1T[0, 1:]
        self._head_VD = model.head_weight.float()
        self._state_TD = model.norm(x_BTD[0]).float()
        self._logprobs_TV = model.logits(x_BTD)[0].float().log_softmax(-1)
        rows = max(1, VALUES_AT_ONCE // len(self._head_VD))
        self._room_RV = self._head_VD.new_empty(rows, len(self._head_VD))  # reused, because allocating costs time
        # Mean of the head's rows, weighted by probability at each position; covariance, weighted by mean probability.
        probabilities_TV = self._logprobs_TV.exp()
        self._mean_TD = probabilities_TV @ self._head_VD
        centre_D = self._mean_TD.mean(0)
        weighted_DV = self._head_VD.mT * probabilities_TV.mean(0)
        self._covariance_DD = weighted_DV @ self._head_VD - centre_D.outer(centre_D)

    def layer_input(self, layer: int, residual_BTD: Tensor) -> None:
        self.streams_TD.append(residual_BTD[0])

    def selection(self, layer: int, selection: Selection) -> None:
        self._selections[layer] = selection

    def routing(self, layer: int, routing: Routing) -> None:
        self.routings[layer] = routing

    def selection_at(self, layer: int, start: int = 0) -> Selection | None:
        """Return the selection that a layer's attention uses, for queries from `start` on; None: dense attention."""
        choosing = [number for number in self._selections if number <= layer]
        return Selection(*(part[:, start:] for part in self._selections[max(choosing)])) if choosing else None

    def cache_up_to(self, length: int, num_sequences: int) -> LatentCache:
        """Return a cache with `num_sequences` copies of the first `length` tokens of the original run."""
        cache = LatentCache(
            self.model.config, self.num_tokens, self._cache.latents[0].device, self._cache.latents[0].dtype,
            num_sequences=num_sequences,
        )  # fmt: skip
        for copies, stored in ((cache.latents, self._cache.latents), (cache.index_keys, self._cache.index_keys)):
            for part, whole in zip(copies, stored, strict=True):
                part[:, :length] = whole[:, :length]
        cache.length = length
        return cache

    def compare(self, x_RD: Tensor, positions_R: Tensor, owners_R: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the mean change of log-probability and the mean KL of each of `count` knock-outs, [B] fp64 on the CPU.

        Let d be the change of the logits, and p the original distribution. Then KL = log E_p[exp d] - E_p[d], and the
        change of log p(token) is d(token) - E_p[d] - KL. These formulas avoid the difference of two large, nearly equal
        numbers. If half the variance of d is at most `SMALL`, KL is set to half the variance, without computing logits.

        Args:
            x_RD: changed residual streams after the last layer.
            positions_R: the position of each row.
            owners_R: the index of the knock-out to which each row belongs.
            count: number of knock-outs.
        """
        moved_RD = self.model.norm(x_RD).float() - self._state_TD[positions_R]
        mean_R = (moved_RD * self._mean_TD[positions_R]).sum(-1)
        kl_R = (moved_RD @ self._covariance_DD * moved_RD).sum(-1) / 2
        for some_R in (kl_R > SMALL).nonzero()[:, 0].split(len(self._room_RV)):
            log_mean_R = self._log_mean(moved_RD[some_R], positions_R[some_R])
            kl_R[some_R] = (log_mean_R - mean_R[some_R]).clamp(min=0)
        has_next_R = positions_R < self.num_tokens - 1
        next_RD = self._head_VD[self._next_ids[positions_R[has_next_R]]]
        change_R = (moved_RD[has_next_R] * next_RD).sum(-1) - (mean_R + kl_R)[has_next_R]
        # Summed on the CPU: MPS has no fp64, and CUDA adds in no fixed order.
        change_B, kl_B = torch.zeros(2, count, dtype=torch.float64)
        change_B.index_add_(0, owners_R[has_next_R].cpu(), change_R.cpu().double())
        kl_B.index_add_(0, owners_R.cpu(), kl_R.cpu().double())
        return change_B / (self.num_tokens - 1), kl_B / self.num_tokens

    def _log_mean(self, moved_RD: Tensor, positions_R: Tensor) -> Tensor:
        """Return the logarithm of E_p[exp d], [R], over the whole vocabulary."""
        room_RV = self._room_RV[: len(positions_R)]

        def moved_logprobs() -> Tensor:
            before_RV = torch.index_select(self._logprobs_TV, 0, positions_R, out=room_RV)
            return before_RV.addmm_(moved_RD, self._head_VD.mT)

        log_mean_R = moved_logprobs().exp_().sum(-1).log()
        if bool(log_mean_R.isfinite().all()):
            return log_mean_R
        return moved_logprobs().logsumexp(-1)  # slower, but does not overflow


class _Changes:
    """The rerouted tokens of each knock-out in one layer, and their states after the layer."""

    def __init__(self, original: _Original, layer: int, edits: Sequence[LayerEdit]) -> None:
        self._original, self._layer = original, layer
        block = original.model.block(layer)
        mixture = block.ffn
        assert isinstance(mixture, MixtureOfExperts)
        x_BTD = original.streams_TD[layer][None]
        mixed_BTD, _ = block.attention(
            block.attention_norm(x_BTD), original.rotations_TR, selection=original.selection_at(layer)
        )
        middle_TD = (x_BTD + mixed_BTD)[0]
        normed_TD = block.ffn_norm(middle_TD)
        before, after = original.routings[layer], [mixture.router(normed_TD, edit) for edit in edits]
        changed_ET = torch.stack([_differs(before, routing) for routing in after])
        self.counts_E = changed_ET.sum(-1).tolist()
        self._expert_N, self._token_N = changed_ET.nonzero(as_tuple=True)
        ids_NK = torch.stack([routing.expert_ids_TK for routing in after])[changed_ET]
        weights_NK = torch.stack([routing.weights_TK for routing in after])[changed_ET]
        rows_ND = normed_TD[self._token_N]
        self._x_ND = middle_TD[self._token_N]
        if len(rows_ND):
            self._x_ND = self._x_ND + mixture.experts(rows_ND, ids_NK, weights_NK)
        if mixture.shared is not None:
            self._x_ND = self._x_ND + mixture.shared(rows_ND)

    @property
    def _is_last(self) -> bool:
        return self._layer == self._original.model.config.num_layers - 1

    def batches(self) -> Iterator[list[int]]:
        """Yield batches of the experts whose knock-out reroutes a token, in the order of the first rerouted token."""
        firsts = self._firsts()
        batch: list[int] = []
        for expert in sorted(firsts, key=lambda expert: firsts[expert]):
            if (len(batch) + 1) * (self._original.num_tokens - firsts[(batch or [expert])[0]]) > ROWS_AT_ONCE and batch:
                yield batch
                batch = []
            batch.append(expert)
        if batch:
            yield batch

    def _firsts(self) -> dict[int, int]:
        """Return the first token that each knock-out reroutes."""
        pairs = zip(self._expert_N.tolist(), self._token_N.tolist(), strict=True)
        return dict(reversed(list(pairs)))

    def outcome(self, experts: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, int]:
        """Return the arguments of `_Original.compare` for these knock-outs, after running the later layers."""
        owner_E = self._expert_N.new_full((self._original.model.config.num_experts,), -1)
        owner_E[list(experts)] = torch.arange(len(experts), device=owner_E.device)
        owner_N = owner_E[self._expert_N]
        mine_N = owner_N >= 0
        x_ND, token_N, owner_N = self._x_ND[mine_N], self._token_N[mine_N], owner_N[mine_N]
        if self._is_last:  # no later layer carries the change to other tokens
            return x_ND, token_N, owner_N, len(experts)
        first_B = torch.tensor([self._firsts()[expert] for expert in experts], device=token_N.device)
        start = int(first_B.min())
        x_BSD = self._original.streams_TD[self._layer + 1][start:].repeat(len(experts), 1, 1)
        x_BSD[owner_N, token_N - start] = x_ND
        x_BSD = self._run_on(x_BSD, start)
        positions_S = torch.arange(start, self._original.num_tokens, device=token_N.device)
        owner_R, place_R = (positions_S >= first_B[:, None]).nonzero(as_tuple=True)
        return x_BSD[owner_R, place_R], positions_S[place_R], owner_R, len(experts)

    def _run_on(self, x_BSD: Tensor, start: int) -> Tensor:
        original = self._original
        cache = original.cache_up_to(start, len(x_BSD))
        shared = original.selection_at(self._layer, start)
        selection = shared and Selection(*(part.expand(len(x_BSD), -1, -1) for part in shared))
        for layer in range(self._layer + 1, original.model.config.num_layers):
            block = original.model.block(layer)
            x_BSD, selection = block(x_BSD, original.rotations_TR[start:], cache, None, None, selection)
        return x_BSD


class _Effects:
    """The effects of the knock-outs done so far, filled batch by batch."""

    def __init__(self, original: _Original) -> None:
        config = original.model.config
        shape = (len(config.moe_layers), config.num_experts)
        self._layers, self._num_tokens = list(config.moe_layers), original.num_tokens
        self._change, self._kl = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
        self._rerouted = np.zeros(shape, np.int32)
        ids = [original.routings[layer].expert_ids_TK.flatten() for layer in config.moe_layers]
        counts = [torch.bincount(ids_N, minlength=config.num_experts) for ids_N in ids]
        self._chosen_by = torch.stack(counts).cpu().numpy().astype(np.int32)

    def untouched(self, row: int, counts: list[int]) -> None:
        """Store how many tokens each knock-out of a layer reroutes, and an effect of 0 where this number is 0."""
        self._rerouted[row] = counts
        for values in (self._change, self._kl):
            values[row, self._rerouted[row] == 0] = 0.0

    def add(self, row: int, experts: Sequence[int], change_B: Tensor, kl_B: Tensor) -> None:
        self._change[row, list(experts)] = change_B.numpy()
        self._kl[row, list(experts)] = kl_B.numpy()

    def so_far(self) -> Importance:
        variables = {
            "logprob_change": self._change,
            "kl": self._kl,
            "chosen_by": self._chosen_by,
            "rerouted": self._rerouted,
        }
        effects = xr.Dataset(
            {name: (("moe_layer", "expert"), values.copy()) for name, values in variables.items()},
            coords={"moe_layer": self._layers},
        )
        return Importance(effects, int(np.isfinite(self._kl).sum()), self._kl.size, self._num_tokens)


def _differs(before: Routing, after: Routing) -> Tensor:
    """Return a mask of the tokens whose experts or gate weights differ, bool [T]."""
    other_ids_T = (before.expert_ids_TK != after.expert_ids_TK).any(-1)
    return other_ids_T | (before.weights_TK != after.weights_TK).any(-1)
