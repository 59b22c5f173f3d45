"""Runs a prompt through a checkpoint that does not fit in memory: layer by layer, reading only the selected experts.

The run computes the blocks of `model.network` in order, with the same products on the same weights as a run in memory;
only the source of the weights differs. While one block computes, the tensors of the next block are read, except its
routed experts. The run learns the selected experts of a layer at the probe point of the router. It reads them in the
order of their use, and other threads decode an expert while the expert before it is multiplied. If the run has a folder
(`partial.py`), it stores every finished layer there, so that a stopped run can continue.

Shape suffixes: B batch (1), T positions, D model width, R position head width, K selected experts.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoint.files import ModelFolder
from model.checkpoint.names import Slot, used_slots
from model.checkpoint.weights import skeleton
from model.network.block import Block
from model.network.config import ModelConfig
from model.network.decision import Routing, Selection
from model.network.layers import RotaryTable
from model.network.moe import MixtureOfExperts
from model.network.mtp import MultiTokenPredictor
from model.network.transformer import Transformer
from model.run.on_demand import DiskWeights, ExpertMatrices, RowsOnDemand
from model.run.partial import Partial
from model.run.recorder import Recorder
from model.run.request import RequestError
from model.run.step import Progress


class Stopped(RequestError):
    """The run was stopped before its end; the message says after how many layers, or that it had not begun."""


class DiskModel:
    """A checkpoint that stays on the disk. A run changes only its queue of tensors to read and its scratch memory."""

    def __init__(self, folder: ModelFolder, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> None:
        self.folder, self.config, self.device, self.dtype = folder, config, device, dtype
        self.weights = DiskWeights(folder, device, dtype)
        self.lock = threading.Lock()  # held for a run
        # By layer number; layer `num_layers` is the layer of the multi-token-prediction module.
        self._of_layer: dict[int, list[Slot]] = {layer: [] for layer in range(config.num_layers + 1)}
        self._of_module: list[Slot] = []  # of the multi-token-prediction module, without its layer
        self.outer: list[Slot] = []  # final norm and output head, used after the blocks
        for slot in used_slots(config):
            parts = slot.parameter.split(".")
            if parts[0] == "blocks":
                self._of_layer[int(parts[1])].append(slot)
            elif parts[0] == "mtp":
                (self._of_layer[config.num_layers] if parts[1] == "block" else self._of_module).append(slot)
            elif parts[0] != "embedding" or config.tie_embeddings:  # an embedding that is not tied is read by rows
                self.outer.append(slot)

    def expert_bias(self, layer: int) -> Tensor:
        """Return the selection bias of a layer's router, [E], read from the disk; zeros if the model has none."""
        names = [slot.published for slot in self._of_layer[layer] if slot.is_expert_bias]
        biases = [self.weights.tensors.take(name, torch.float32).to(self.device) for name in names]
        return biases[0] if biases else torch.zeros(self.config.num_experts, device=self.device)

    def announce(self, layer: int) -> None:
        """Queue a layer's tensors to be read, except its routed experts; after the last layer, final norm and head."""
        following = self._own(layer) if layer < self.config.num_layers else self.outer
        self.weights.tensors.announce(slot.published for slot in following)

    def _own(self, layer: int) -> list[Slot]:
        return [slot for slot in self._of_layer[layer] if slot.expert is None and not slot.is_expert_bias]

    def build(self, layer: int, expert_bias: Tensor | None = None) -> Block:
        """Return a block that reads each routed expert when it is used. `expert_bias` None: read it from the disk."""
        with torch.device("meta"):
            block = Block(self.config, layer)
        if isinstance(block.ffn, MixtureOfExperts):
            self._leave_on_disk(block.ffn.experts, layer)
        prefix = "mtp.block." if layer == self.config.num_layers else f"blocks.{layer}."
        self._fill_module(block.to(self.dtype), self._own(layer), prefix)
        if isinstance(block.ffn, MixtureOfExperts):
            block.ffn.router.expert_bias = self.expert_bias(layer) if expert_bias is None else expert_bias
        return block.eval().requires_grad_(False)

    def build_predictor(self) -> MultiTokenPredictor:
        """Return the multi-token-prediction module; it reads the experts of its layer when they are used."""
        with torch.device("meta"):
            module = MultiTokenPredictor(self.config)
        self._fill_module(module.to(self.dtype), self._of_module, "mtp.")
        module.block = self.build(self.config.num_layers)
        return module.eval().requires_grad_(False)

    def _fill_module(self, module: nn.Module, own: list[Slot], prefix: str) -> None:
        """Allocate the module's parameters, and read the slots `own` into them, each slot from its published tensor.

        The name `slot.parameter` is `prefix`, followed by the parameter's name in the module.
        """
        for name in dict.fromkeys(slot.parameter.removeprefix(prefix) for slot in own):
            self._allocate(module, name, module.get_parameter(name))
        state = {prefix + name: tensor for name, tensor in module.state_dict().items()}
        targets = [(slot.published, slot.part_of(state[slot.parameter])) for slot in own]
        list(self.weights.decoders.map(lambda target: self.weights.fill(*target), targets))

    def _allocate(self, whole: nn.Module, name: str, parameter: Tensor) -> None:
        owner, _, last = name.rpartition(".")
        module = whole.get_submodule(owner)
        is_matrix = isinstance(module, nn.Linear) and last == "weight"
        shape = tuple(parameter.shape)
        empty = self.weights.empty_matrix(shape) if is_matrix else torch.empty_like(parameter, device=self.device)
        setattr(module, last, nn.Parameter(empty, requires_grad=False))

    def _leave_on_disk(self, experts: nn.Module, layer: int) -> None:
        for name in ("gate_up", "down"):
            delattr(experts, name)
            parts = [s for s in self._of_layer[layer] if s.expert is not None and s.parameter.endswith(name)]
            setattr(experts, name, ExpertMatrices(self.weights, parts))


class DiskRun:
    """One run of a checkpoint on the disk, with a model of its own.

    Attributes:
        model: a model with empty blocks; embedding, biases, final norm and head are read during the run.
    """

    def __init__(self, disk: DiskModel, partial: Partial | None = None) -> None:
        """Prepare a run; with `partial`, start after its stored layers, and store each layer that the run finishes."""
        self.disk, self.partial = disk, partial
        self.model: Transformer = skeleton(disk.config, disk.dtype)
        self.model.rotary = RotaryTable(disk.config).to(disk.device)
        self.model.embedding = RowsOnDemand(disk.weights, disk.config.hidden_size)
        self.model.eval().requires_grad_(False)

    def blocks(
        self, recorder: Recorder, cancel: threading.Event | None, on_layer: Callable[[Progress], None]
    ) -> Iterator[Any]:
        """Yield the blocks in order, and call `on_layer` after each block.

        Raises:
            Stopped: `cancel` was set before one of the layers.
        """
        disk, tensors, done = self.disk, self.disk.weights.tensors, self.partial.layers_done if self.partial else 0
        tensors.forget()
        for layer, router in zip(disk.config.moe_layers, self.model.routers(), strict=True):
            router.expert_bias = disk.expert_bias(layer)
        began, num_layers, before = time.monotonic(), disk.config.num_layers, tensors.bytes_read
        for layer in range(done):
            yield _Remembered(self.partial, layer, last=layer == done - 1)
        if done < num_layers:
            disk.announce(done)
        for layer in range(done, num_layers):
            if cancel is not None and cancel.is_set():
                raise Stopped(f"stopped after {layer} of {num_layers} layers")
            yield _Watched(self, layer, recorder)
            on_layer(
                Progress(layer + 1 - done, num_layers - done, tensors.bytes_read - before, time.monotonic() - began)
            )
        self._read_outer()
        if "drafts" in recorder.capture.variables:
            self.model.mtp = disk.build_predictor()

    def build(self, layer: int) -> Block:
        """Return a block with the selection bias that this run read at its start."""
        mixture = self.model.block(layer).ffn
        return self.disk.build(layer, mixture.router.expert_bias if isinstance(mixture, MixtureOfExperts) else None)

    def _read_outer(self) -> None:
        """Read the final norm and the output head, which are used last."""
        weights = self.disk.weights
        for slot in self.disk.outer:
            if slot.parameter == "norm.weight":
                norm = weights.tensors.take(slot.published, weights.dtype).to(weights.device)
                self.model.norm.weight = nn.Parameter(norm, requires_grad=False)
                continue
            matrix = weights.empty_matrix(slot.shape)
            weights.fill(slot.published, matrix)
            self.model.head = nn.Linear(*reversed(slot.shape), bias=False, device="meta")
            self.model.head.weight = nn.Parameter(matrix, requires_grad=False)


class _Watched:
    """Builds its block when it is called, and starts to read experts as soon as the router has selected them."""

    def __init__(self, run: DiskRun, layer: int, recorder: Recorder) -> None:
        self._run, self._layer, self._recorder = run, layer, recorder

    def __call__(self, x_BTD: Tensor, rotations_TR: Tensor, cache: Any, tape: Any, edit: Any, selection: Any) -> Any:
        run, layer = self._run, self._layer
        block = run.build(layer)
        if isinstance(block.ffn, MixtureOfExperts):
            tape = _ReadingTape(run.disk, block.ffn.experts, tape)
        else:
            run.disk.announce(layer + 1)
        x_BTD, selection = block(x_BTD, rotations_TR, cache, tape, edit, selection)
        if run.partial is not None:
            run.partial.write(layer, x_BTD, selection, self._recorder.of_layer(layer))
        return x_BTD, selection


class _ReadingTape:
    """Forwards every call to the run's tape, and starts to read the experts that the router selected."""

    def __init__(self, disk: DiskModel, experts: Any, tape: Any) -> None:
        self._disk, self._matrices, self._tape = disk, (experts.gate_up, experts.down), tape

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tape, name)

    def routing(self, layer: int, routing: Routing) -> None:
        self._tape.routing(layer, routing)
        selected = sorted({expert for ids_K in routing.expert_ids_TK.tolist() for expert in ids_K})
        for matrices in self._matrices:
            matrices.announce(selected)
        self._disk.announce(layer + 1)
        for matrices in self._matrices:
            matrices.start()


class _Remembered:
    """Replaces a layer that an earlier run finished: restores the recorded variables instead of computing the layer.

    Only the last finished layer returns the stored residual stream and selection; earlier layers return their input.
    """

    def __init__(self, partial: Partial | None, layer: int, last: bool) -> None:
        assert partial is not None
        self._partial, self._layer, self._last = partial, layer, last

    def __call__(
        self, x_BTD: Tensor, rotations_TR: Tensor, cache: Any, tape: Recorder, edit: Any, selection: Any
    ) -> Any:
        tensors = self._partial.read(self._layer, x_BTD.device)
        tape.restore(self._layer, tensors)
        if not self._last:
            return x_BTD, selection
        parts = [tensors.get(f"selection.{name}") for name in Selection._fields]
        return tensors["residual"], Selection(*parts) if parts[0] is not None else None  # type: ignore[arg-type]
