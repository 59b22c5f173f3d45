"""One training step: draw a batch, compute gradients, clip, update weights and biases, and return the log line.

Weights and moments are fp32, products run under autocast, and the router always runs in fp32. On the CPU, several
forward and backward passes can run in parallel, each on its own threads, because products of small tensors gain little
from many threads, and a busy core delays one pass instead of every product. Gradients are added in a fixed order, so
they do not depend on timing.

Shape suffixes: B sequences, T positions, D model width, E experts, L MoE layers.
"""

import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.network.decision import Routing
from model.network.moe import Router
from model.network.transformer import Transformer
from model.train.config import TrainConfig
from model.train.data.batches import Batches
from model.train.freezing import freeze
from model.train.losses import cross_entropy, sequence_balance_loss, switch_balance_loss, update_bias
from model.train.optimiser import make_optimiser
from model.train.state import load_state, save_state
from model.train.tapes import RoutingTape, TrainingTape


class PassResult(NamedTuple):
    """The gradients, losses and loads of one forward and backward pass."""

    gradients: tuple[Tensor, ...]
    loss: Tensor
    mtp_loss: Tensor  # zero without a multi-token-prediction module
    balance_loss: Tensor
    indexer_loss: Tensor  # sum over layers; zero without indexers
    counts_LE: Tensor


class Trainer:
    """The model, optimiser, data and number of finished steps of one run."""

    def __init__(self, model: Transformer, config: TrainConfig, windows: Batches[Tensor], device: torch.device) -> None:
        self.config, self.device, self.steps_done = config, device, 0
        self.skipped = self.roll_backs = 0  # batches left out by roll-backs, and number of roll-backs
        self.model, shape = model.to(device).train(), model.config
        self.drafts = shape.has_mtp and config.mtp_weight > 0
        self.layers = (*shape.moe_layers, *((shape.num_layers,) if self.drafts else ()))  # layers with a router
        self.routers = routers(self.model, self.drafts)
        unused = ("mtp.",) if shape.has_mtp and not self.drafts else ()
        self.parameters = freeze(self.model, (*config.frozen, *unused))
        self.optimiser = make_optimiser(self.model, config)
        self.windows = windows
        self.hidden: Callable[..., Tensor] = self.model.hidden
        if config.compile:
            self.hidden = torch.compile(self.model.hidden, dynamic=False)

    def step(self, executor: Executor) -> dict[str, Any]:
        """Do one step and return its log line."""
        started = time.perf_counter()
        config, step = self.config, self.steps_done
        num_sequences = config.batch_size * config.passes_at(step)
        batch_BT = self.windows.batch(config.seed, step + self.skipped, num_sequences).to(self.device)
        results = list(executor.map(self._pass, batch_BT.split(config.batch_size)))
        for parameter, *gradients in zip(self.parameters, *(result.gradients for result in results), strict=True):
            parameter.grad = torch.stack(gradients).mean(0) if len(gradients) > 1 else gradients[0]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate(step)
        self.optimiser.step()
        counts_LE = torch.stack([result.counts_LE for result in results]).sum(0)
        for router, counts_E in zip(self.routers, counts_LE, strict=True):
            if router.weight.requires_grad:
                update_bias(router.expert_bias, counts_E, config.bias_speed_at(step), config.bias_centred)
        self.steps_done += 1
        seconds = time.perf_counter() - started
        return {
            "step": self.steps_done,
            "tokens": config.tokens_at(step),
            "loss": float(torch.stack([result.loss for result in results]).mean()),
            **self._part_facts(results),
            "balance_loss": float(torch.stack([result.balance_loss for result in results]).mean()),
            "rate": config.rate(step),
            "grad_norm": float(norm),
            "seconds": round(seconds, 4),
            "tokens_per_s": round(config.tokens_at(step) / seconds, 1),
            "load": dict(zip(map(str, self.layers), counts_LE.tolist(), strict=True)),
        }

    def save(self, folder: Path) -> None:
        """Save everything that the next step depends on, to a folder."""
        done = {"step": self.steps_done, "skipped": self.skipped, "roll_backs": self.roll_backs}
        save_state(folder, self.model, self.optimiser, done)

    def load(self, folder: Path) -> None:
        """Load the state in a folder.

        Raises:
            StateError: the state is missing or unreadable, or its model has another shape.
        """
        done = load_state(folder, self.model, self.optimiser)
        self.steps_done = done["step"]
        self.skipped, self.roll_backs = done.get("skipped", 0), done.get("roll_backs", 0)

    def biases(self) -> dict[str, list[float]]:
        """Return the selection bias of every expert, by layer number."""
        biases = [[round(value, 4) for value in router.expert_bias.tolist()] for router in self.routers]
        return dict(zip(map(str, self.layers), biases, strict=True))

    def _part_facts(self, results: list[PassResult]) -> dict[str, float]:
        """Return the losses of the multi-token-prediction module and of the indexers, if the model has them."""
        shape, facts = self.model.config, {}
        if self.drafts:
            facts["mtp_loss"] = float(torch.stack([result.mtp_loss for result in results]).mean())
        if shape.is_sparse:
            facts["indexer_loss"] = float(torch.stack([result.indexer_loss for result in results]).mean())
        return facts

    def _pass(self, batch_BT: Tensor) -> PassResult:
        """Return losses, gradients and loads of one forward and backward pass over windows [B, T + 1]."""
        if torch.get_num_threads() != self.config.threads:
            torch.set_num_threads(self.config.threads)
        dtype = getattr(torch, self.config.dtype)
        tape = TrainingTape() if self.model.config.is_sparse else RoutingTape()
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            x_BTD = self.hidden(batch_BT[:, :-1], tape=tape)
            normed_BTD = self.model.norm(x_BTD)
        loss = cross_entropy(normed_BTD.float(), self.model.head_weight, batch_BT[:, 1:], dtype)
        mtp_loss = self._mtp_loss(x_BTD, batch_BT, tape, dtype)
        balance_loss, counts_LE = self._balance(tape.routings, len(batch_BT))
        total = loss + self.config.balance_weight * balance_loss
        if self.config.switch_weight:
            total = total + self.config.switch_weight * self._switch_loss(tape.routings)
        indexer_loss = torch.zeros((), device=self.device)
        if isinstance(tape, TrainingTape):  # a sum, because each layer's indexer learns only from its own loss
            indexer_loss = torch.stack(tape.losses).sum()
            total = total + indexer_loss
        total = total + self.config.mtp_weight_at(self.steps_done) * mtp_loss
        gradients = torch.autograd.grad(total, self.parameters)
        losses = (loss.detach(), mtp_loss.detach(), balance_loss.detach(), indexer_loss.detach())
        return PassResult(gradients, *losses, counts_LE)

    def _mtp_loss(self, x_BTD: Tensor, batch_BT: Tensor, tape: RoutingTape, dtype: torch.dtype) -> Tensor:
        """Return the multi-token-prediction loss, or zero if no module is trained."""
        if not self.drafts:
            return torch.zeros((), device=self.device)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            states_BTD = self.model.draft_states(x_BTD[:, :-1], batch_BT[:, 1:-1], tape=tape)
        return cross_entropy(states_BTD.float(), self.model.head_weight, batch_BT[:, 2:], dtype)

    def _switch_loss(self, routings: list[Routing]) -> Tensor:
        """Return the Switch loss over all tokens of the pass, a mean over layers."""
        top_k = self.model.config.top_k
        probabilities = [r.scores_TE / r.scores_TE.sum(-1, keepdim=True) for r in routings]
        return torch.stack([switch_balance_loss(each_TE, top_k) for each_TE in probabilities]).mean()

    def _balance(self, routings: list[Routing], num_sequences: int) -> tuple[Tensor, Tensor]:
        """Return the sequence-wise balance loss, a mean over layers, and the tokens of each expert, [L, E]."""
        shape = self.model.config
        if not routings:
            return torch.zeros((), device=self.device), torch.zeros(0, shape.num_experts, device=self.device)
        losses = [
            sequence_balance_loss(routing.scores_TE.unflatten(0, (num_sequences, -1)), shape.top_k)
            for routing in routings
        ]
        counts = [torch.bincount(r.expert_ids_TK.flatten(), minlength=shape.num_experts) for r in routings]
        return torch.stack(losses).mean(), torch.stack(counts)


def routers(model: Transformer, with_module: bool) -> list[Router]:
    """Return the routers of the MoE layers, then the router of the multi-token-prediction module if `with_module`."""
    module = model.mtp if with_module and model.mtp is not None else nn.Module()
    return model.routers() + [part for part in module.modules() if isinstance(part, Router)]
