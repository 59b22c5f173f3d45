"""The training loop: draw, run, clip, step, move the bias, write down.

Weights and moments are fp32, products run under autocast, the router always in fp32. On the CPU several forward and
backward passes can run side by side, each on its own thread: small tensors gain little from many threads per product,
and a busy core holds up one pass instead of every product. Their gradients are added in a fixed order, so the result
does not depend on timing.

Shape suffixes: B sequences, T positions, D model width, E experts, L mixture layers.
"""

import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.checkpoint.names import slots
from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import save_model, stored_bytes
from model.network.config import ModelConfig
from model.network.moe import Router, Routing
from model.network.transformer import Transformer
from model.train.config import ContinueConfig, ExtendConfig, TrainConfig, TrainConfigError
from model.train.data import Batches, Windows
from model.train.examine import Examiner
from model.train.log import StepLog
from model.train.losses import cross_entropy, sequence_balance_loss, switch_balance_loss, update_bias
from model.train.memory import choose_device
from model.train.start import begin
from model.train.state import STATE, load_state, save_state
from model.train.tapes import RoutingTape, TrainingTape
from model.train.watch import Watch


class PassResult(NamedTuple):
    """Of one forward and backward pass."""

    gradients: tuple[Tensor, ...]
    loss: Tensor
    mtp_loss: Tensor  # zero without such a module
    balance_loss: Tensor
    indexer_loss: Tensor  # sum over layers; zero without indexers
    counts_LE: Tensor


class Trainer:
    """One run: model, optimiser, data and the number of steps done."""

    def __init__(self, model: Transformer, config: TrainConfig, windows: Batches, device: torch.device) -> None:
        self.config, self.device, self.steps_done = config, device, 0
        self.model, shape = model.to(device).train(), model.config
        if config.sequence_length > shape.max_positions:
            raise TrainConfigError(
                f"sequence_length {config.sequence_length} exceeds the model's {shape.max_positions} positions"
            )
        self.layers = (*shape.moe_layers, *((shape.num_layers,) if shape.has_mtp else ()))  # those with a router
        self.routers = routers(self.model)
        self.parameters = list(self.model.parameters())
        self.optimiser = make_optimiser(self.model, config)
        self.windows = windows
        self.hidden: Callable[..., Tensor] = self.model.hidden
        if config.compile:
            self.hidden = torch.compile(self.model.hidden, dynamic=False)

    def step(self, executor: Executor) -> dict[str, Any]:
        """Do one step and return its log line."""
        began = time.perf_counter()
        config, step = self.config, self.steps_done
        batch_BT = self.windows.batch(config.seed, step, config.batch_size * config.accumulation).to(self.device)
        results = list(executor.map(self._pass, batch_BT.split(config.batch_size)))
        for parameter, *gradients in zip(self.parameters, *(result.gradients for result in results), strict=True):
            parameter.grad = torch.stack(gradients).mean(0) if len(gradients) > 1 else gradients[0]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate(step)
        self.optimiser.step()
        counts_LE = torch.stack([result.counts_LE for result in results]).sum(0)
        for router, counts_E in zip(self.routers, counts_LE, strict=True):
            update_bias(router.expert_bias, counts_E, config.bias_speed_at(step), config.bias_centred)
        self.steps_done += 1
        seconds = time.perf_counter() - began
        return {
            "step": self.steps_done,
            "tokens": config.tokens_per_step,
            "loss": float(torch.stack([result.loss for result in results]).mean()),
            **self._part_facts(results),
            "balance_loss": float(torch.stack([result.balance_loss for result in results]).mean()),
            "rate": config.rate(step),
            "grad_norm": float(norm),
            "seconds": round(seconds, 4),
            "tokens_per_s": round(config.tokens_per_step / seconds, 1),
            "load": dict(zip(map(str, self.layers), counts_LE.tolist(), strict=True)),
        }

    def biases(self) -> dict[str, list[float]]:
        """The selection bias of every expert, by the number of its layer."""
        found = [[round(value, 4) for value in router.expert_bias.tolist()] for router in self.routers]
        return dict(zip(map(str, self.layers), found, strict=True))

    def _part_facts(self, results: list[PassResult]) -> dict[str, float]:
        """Losses of the parts that the model has: prediction module, indexers."""
        shape, facts = self.model.config, {}
        if shape.has_mtp:
            facts["mtp_loss"] = float(torch.stack([result.mtp_loss for result in results]).mean())
        if shape.is_sparse:
            facts["indexer_loss"] = float(torch.stack([result.indexer_loss for result in results]).mean())
        return facts

    def _pass(self, batch_BT: Tensor) -> PassResult:
        """Loss and gradients of some of a step's sequences."""
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
        if isinstance(tape, TrainingTape):  # the sum: each layer's indexer learns by its own loss alone
            indexer_loss = torch.stack(tape.losses).sum()
            total = total + indexer_loss
        total = total + self.config.mtp_weight_at(self.steps_done) * mtp_loss
        gradients = torch.autograd.grad(total, self.parameters)
        losses = (loss.detach(), mtp_loss.detach(), balance_loss.detach(), indexer_loss.detach())
        return PassResult(gradients, *losses, counts_LE)

    def _mtp_loss(self, x_BTD: Tensor, batch_BT: Tensor, tape: RoutingTape, dtype: torch.dtype) -> Tensor:
        """Of the tokens after the next ones; zero without a multi-token-prediction module."""
        if self.model.mtp is None:
            return torch.zeros((), device=self.device)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            states_BTD = self.model.draft_states(x_BTD[:, :-1], batch_BT[:, 1:-1], tape=tape)
        return cross_entropy(states_BTD.float(), self.model.head_weight, batch_BT[:, 2:], dtype)

    def _switch_loss(self, routings: list[Routing]) -> Tensor:
        """Mean over layers of the older auxiliary loss over all tokens of the pass."""
        top_k = self.model.config.top_k
        probabilities = [r.scores_TE / r.scores_TE.sum(-1, keepdim=True) for r in routings]
        return torch.stack([switch_balance_loss(each_TE, top_k) for each_TE in probabilities]).mean()

    def _balance(self, routings: list[Routing], num_sequences: int) -> tuple[Tensor, Tensor]:
        """Mean sequence-wise loss over layers, and tokens per expert of each layer."""
        shape = self.model.config
        if not routings:
            return torch.zeros((), device=self.device), torch.zeros(0, shape.num_experts, device=self.device)
        losses = [
            sequence_balance_loss(routing.scores_TE.unflatten(0, (num_sequences, -1)), shape.top_k)
            for routing in routings
        ]
        counts = [torch.bincount(r.expert_ids_TK.flatten(), minlength=shape.num_experts) for r in routings]
        return torch.stack(losses).mean(), torch.stack(counts)


def routers(model: Transformer) -> list[Router]:
    """Those of the mixture layers, that of multi-token prediction last."""
    of_module = [module for module in (model.mtp or nn.Module()).modules() if isinstance(module, Router)]
    return model.routers() + of_module


def is_due(config: TrainConfig, step: int) -> bool:
    """Whether a step ends with a look at held-out text: the first, the last, and every `look_steps` between."""
    return step in (1, config.total_steps) or step % config.look_steps == 0


def make_optimiser(model: Transformer, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW in its fused form; matrices decay, norms and biases do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM and SIGINT into a question that the loop asks after each step."""
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, lambda got, frame: received.append(got)) for number in numbers]
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def train(
    start: ModelConfig | ContinueConfig | ExtendConfig,
    config: TrainConfig,
    shards: Path,
    out: Path,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    heldout: Path | None = None,
) -> Trainer:
    """Run to `total_steps`, or until a signal; the state is saved on the way and at the end.

    Args:
        start: the shape of the model, or the model that the run goes on from.
        config: everything else.
        shards: folder made by the tokenize command.
        out: folder of the run; made when missing.
        resume: continue from the state in `out`. The configuration may differ in everything but the shape.
        report: called with each step's log line.
        heldout: folder of held-out streams, looked at every `look_steps`.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = begin(start, config.seed)
    windows = Windows(shards, config.sequence_length, model.config.bos_id or 0)
    trainer = Trainer(model, config, windows, choose_device(config.device))
    if resume and (out / STATE).exists():
        trainer.steps_done = load_state(out, trainer.model, trainer.optimiser)["step"]
    window, examiner = config.sequence_length, None
    if heldout is not None:
        examiner = Examiner(heldout, Tokenizer.load(shards), window, config.look_bytes)
    watch = Watch(model.config)
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(config.workers) as executor,
        StepLog(out, trainer.steps_done) as log,
        stop_on_signal() as stopped,
    ):
        # The norms inside attention read bf16 and have fp32 weights under autocast; no fused form exists for that.
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        while trainer.steps_done < config.total_steps and not stopped():
            line = trainer.step(executor)
            if examiner is not None and is_due(config, trainer.steps_done):
                line |= examiner.look(trainer.model) | {"bias": trainer.biases()}
            line |= watch.see(line)
            log.write(line)
            report(line)
            if config.stop_on_alarm and "alarms" in line:
                break
            if trainer.steps_done % config.checkpoint_steps == 0:
                save_state(out, trainer.model, trainer.optimiser, {"step": trainer.steps_done})
    save_state(out, trainer.model, trainer.optimiser, {"step": trainer.steps_done})
    if trainer.steps_done >= config.total_steps:
        export(trainer.model, shards / "tokenizer.json", out / "model", config.store)
    return trainer


def export(model: Transformer, tokenizer: Path, folder: Path, store: str = "auto") -> None:
    """Write the model folder that runs: config.json, weights, and a copy of tokenizer.json.

    A multi-token-prediction module gets a file of its own beside the model's.

    Args:
        model: What is written.
        tokenizer: The file to copy.
        folder: Made if it does not exist; its parent must.
        store: The weights' form: float32, bfloat16 or fp8 (in blocks). auto is that of the released models: fp8 with
            sparse attention, else bfloat16.
    """
    if store == "auto":
        store = "fp8" if model.config.is_sparse else "bfloat16"
    dtype = torch.float32 if store == "float32" else torch.bfloat16
    own_bytes = sum(stored_bytes(slot, dtype) for slot in slots(model.config))
    shards = own_bytes if model.config.has_mtp else None
    scales = torch.float32 if store == "fp8" else None
    save_model(model, folder, dtype, shards, scales, fp8_embedding=store == "fp8")
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
