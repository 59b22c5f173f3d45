"""Runs a prompt through a checkpoint that does not fit in memory: layer by layer, and of the experts only those hit.

The network is the one of `model.network`, block by block, with the same products on the same weights; only where a
weight comes from differs. A block's own tensors are read ahead while the block before it computes. Which experts a
prompt hits is known once the router has decided, through the same probe point that the recorder uses; they are read in
the order in which they will be used, and turned into weights on other threads while the one before is multiplied. With
a folder for it, every finished layer is written down, so that a run that was stopped goes on where it stood.

Shape suffixes: B batch (1), T positions, D model width, R position head width, K selected experts.
"""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoint.disk import DiskTensors
from model.checkpoint.files import ModelFolder
from model.checkpoint.names import Slot, used_slots
from model.network.block import Block
from model.network.config import ModelConfig
from model.network.decision import Routing, Selection
from model.network.layers import RotaryTable
from model.network.layout import wants_input_major
from model.network.moe import MixtureOfExperts
from model.network.mtp import MultiTokenPredictor
from model.network.transformer import Transformer
from model.run.on_demand import ExpertMatrices, SomeRows
from model.run.partial import Partial
from model.run.recorder import Recorder
from model.run.request import RequestError

DECODERS = 2  # threads that turn what was read into weights
AHEAD = 2  # matrices of experts that are decoded before they are used


class Stopped(RequestError):
    """The run was stopped before a layer; the message says how far it came."""


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """After a layer."""

    layers_done: int  # 0 while another run of the model goes on
    num_layers: int
    bytes_read: int
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Mean rate so far, computing included."""
        return self.bytes_read / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float:
        """If the layers to come take as long as those so far."""
        return self.seconds / self.layers_done * (self.num_layers - self.layers_done) if self.layers_done else 0.0


class DiskModel:
    """A checkpoint that stays on the disk."""

    def __init__(self, folder: ModelFolder, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> None:
        self.folder, self.config, self.device, self.dtype = folder, config, device, dtype
        self.disk = DiskTensors(folder)
        self.partial: Partial | None = None
        self.decoders = ThreadPoolExecutor(DECODERS, "decode")
        self._scratch: dict[tuple[int, ...], collections.deque[Tensor]] = {}
        # By layer number; the one for multi-token prediction is numbered after the last.
        self._of_layer: dict[int, list[Slot]] = {layer: [] for layer in range(config.num_layers + 1)}
        self._of_module: list[Slot] = []  # of multi-token prediction, beside its layer
        self._outer: list[Slot] = []  # what comes after the blocks
        with torch.device("meta"):
            self.model = Transformer(config)  # its blocks and its embedding are never filled
        self.model.rotary = RotaryTable(config).to(device)
        self.model.eval().requires_grad_(False)
        for slot in used_slots(config):
            parts = slot.parameter.split(".")
            if parts[0] == "blocks":
                self._of_layer[int(parts[1])].append(slot)
            elif parts[0] == "mtp":
                (self._of_layer[config.num_layers] if parts[1] == "block" else self._of_module).append(slot)
            elif parts[0] != "embedding" or config.tie_embeddings:  # else its rows are all that is read of it
                self._outer.append(slot)

    def start(
        self,
        token_ids: list[int],
        recorder: Recorder,
        cancel: threading.Event | None,
        on_layer: Callable[[Progress], None],
    ) -> Iterator[Any]:
        """Read the embedding's rows of these tokens and the routers' biases, and return the blocks.

        `on_layer` is called after each of them.

        Raises:
            Stopped: while the blocks are run, when the event is set; looked at between layers.
        """
        self.disk.forget()
        self.model.embedding = SomeRows(self, token_ids)
        for layer, router in zip(self.config.moe_layers, self.model.routers(), strict=True):
            router.expert_bias = self._expert_bias(layer)
        return self._blocks(recorder, cancel, on_layer)

    def embedding_rows(self, token_ids: list[int]) -> Tensor:
        """The embedding of some tokens, one row each."""
        return self.disk.rows("model.embed_tokens.weight", token_ids, self.dtype).to(self.device)

    def _expert_bias(self, layer: int) -> Tensor:
        names = [slot.published for slot in self._of_layer[layer] if slot.is_expert_bias]
        found = [self.disk.take(name, torch.float32).to(self.device) for name in names]
        return found[0] if found else torch.zeros(self.config.num_experts, device=self.device)

    def _finish(self) -> None:
        """Read the final norm and the output head, which are used last."""
        for slot in self._outer:
            if slot.parameter == "norm.weight":
                norm = self.disk.take(slot.published, self.dtype).to(self.device)
                self.model.norm.weight = nn.Parameter(norm, requires_grad=False)
                continue
            weight = self.empty_matrix(slot.shape)
            self.fill(slot.published, weight)
            self.model.head = nn.Linear(*reversed(slot.shape), bias=False, device="meta")
            self.model.head.weight = nn.Parameter(weight, requires_grad=False)

    def _blocks(
        self, recorder: Recorder, cancel: threading.Event | None, on_layer: Callable[[Progress], None]
    ) -> Iterator[Any]:
        began, done = time.monotonic(), self.partial.layers_done if self.partial else 0
        num_layers, before = self.config.num_layers, self.disk.bytes_read
        for layer in range(done):
            yield _Remembered(self.partial, layer, last=layer == done - 1)
        if done < num_layers:
            self.disk.announce(self._needed(done))
        for layer in range(done, num_layers):
            if cancel is not None and cancel.is_set():
                raise Stopped(f"stopped after {layer} of {num_layers} layers")
            yield _Watched(self, layer, recorder)
            read, seconds = self.disk.bytes_read - before, time.monotonic() - began
            on_layer(Progress(layer + 1 - done, num_layers - done, read, seconds))
        self._finish()
        if "drafts" in recorder.capture.variables:
            self.model.mtp = self._build_module()

    def announce_next(self, layer: int) -> None:
        """What the next layer needs in any case, or what comes after the last one."""
        if layer + 1 < self.config.num_layers:
            self.disk.announce(self._needed(layer + 1))
        else:
            self.disk.announce(slot.published for slot in self._outer)

    def build(self, layer: int) -> Block:
        """A block with all its tensors but the routed experts', which are read when they are used."""
        with torch.device("meta"):
            block = Block(self.config, layer)
        if isinstance(block.ffn, MixtureOfExperts):
            self._leave_on_disk(block.ffn.experts, layer)
        own = [slot for slot in self._of_layer[layer] if slot.expert is None and not slot.is_expert_bias]
        self._fill_module(
            block.to(self.dtype), own, "mtp.block." if layer == self.config.num_layers else f"blocks.{layer}."
        )
        if isinstance(block.ffn, MixtureOfExperts):
            block.ffn.router.expert_bias = self._bias_of(layer)
        return block.eval().requires_grad_(False)

    def _bias_of(self, layer: int) -> Tensor:
        """Of an ordinary layer as it was read at the start; of the one for multi-token prediction read now."""
        if layer == self.config.num_layers:
            return self._expert_bias(layer)
        skeleton = self.model.block(layer).ffn
        assert isinstance(skeleton, MixtureOfExperts)
        return skeleton.router.expert_bias

    def _build_module(self) -> MultiTokenPredictor:
        """The multi-token-prediction module; the experts of its layer are read when they are used."""
        with torch.device("meta"):
            module = MultiTokenPredictor(self.config)
        self._fill_module(module.to(self.dtype), self._of_module, "mtp.")
        module.block = self.build(self.config.num_layers)
        return module.eval().requires_grad_(False)

    def _fill_module(self, module: nn.Module, own: list[Slot], prefix: str) -> None:
        """Allocate the parameters of a module that these slots fill, and read them; `prefix` is before its names."""
        for name in dict.fromkeys(slot.parameter.removeprefix(prefix) for slot in own):
            self._allocate(module, name, module.get_parameter(name))
        state = {prefix + name: tensor for name, tensor in module.state_dict().items()}
        targets = [(slot.published, slot.part_of(state[slot.parameter])) for slot in own]
        list(self.decoders.map(lambda target: self.fill(*target), targets))

    @torch.inference_mode()
    def fill(self, name: str, target: Tensor) -> None:
        """Read a tensor's numbers into a part of a weight; on any thread."""
        if target.device.type == "cpu":
            self.disk.take_into(name, target)
        else:
            target.copy_(self.disk.take(name, self.dtype))

    def _needed(self, layer: int) -> list[str]:
        parts = self._of_layer[layer]
        return [slot.published for slot in parts if slot.expert is None and not slot.is_expert_bias]

    def _allocate(self, whole: nn.Module, name: str, parameter: Tensor) -> None:
        owner, _, last = name.rpartition(".")
        module = whole.get_submodule(owner)
        is_matrix = isinstance(module, nn.Linear) and last == "weight"
        empty = (
            self.empty_matrix(tuple(parameter.shape)) if is_matrix else torch.empty_like(parameter, device=self.device)
        )
        setattr(module, last, nn.Parameter(empty, requires_grad=False))

    def empty_matrix(self, shape: tuple[int, ...]) -> Tensor:
        """Room for a matrix, with the strides that an engine in memory gives it: other strides, other rounding."""
        if wants_input_major(self.device, self.dtype):
            return torch.empty(tuple(reversed(shape)), dtype=self.dtype, device=self.device).mT
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def scratch(self, shape: tuple[int, ...]) -> Tensor:
        """Room for a matrix, the same again after `AHEAD` others of its shape: fresh memory would cost more to get."""
        if shape not in self._scratch:
            self._scratch[shape] = collections.deque(self.empty_matrix(shape) for _ in range(AHEAD + 1))
        self._scratch[shape].rotate()
        return self._scratch[shape][0]

    def _leave_on_disk(self, experts: nn.Module, layer: int) -> None:
        for name in ("gate_up", "down"):
            delattr(experts, name)
            parts = [s for s in self._of_layer[layer] if s.expert is not None and s.parameter.endswith(name)]
            setattr(experts, name, ExpertMatrices(self, parts, AHEAD))


class _Watched:
    """A block that is built when it is called, whose router's decision starts the reading of its experts."""

    def __init__(self, model: DiskModel, layer: int, recorder: Recorder) -> None:
        self._model, self._layer, self._recorder = model, layer, recorder

    def __call__(self, x_BTD: Tensor, rotations_TR: Tensor, cache: Any, tape: Any, edit: Any, selection: Any) -> Any:
        model, layer = self._model, self._layer
        block = model.build(layer)
        if isinstance(block.ffn, MixtureOfExperts):
            tape = _ReadingTape(model, block.ffn.experts, tape)
        else:
            model.announce_next(layer)
        x_BTD, selection = block(x_BTD, rotations_TR, cache, tape, edit, selection)
        if model.partial is not None:
            model.partial.write(layer, x_BTD, selection, self._recorder.of_layer(layer))
        return x_BTD, selection


class _ReadingTape:
    """Hands everything on to the run's own tape, and starts reading the experts that the router chose."""

    def __init__(self, model: DiskModel, experts: Any, tape: Any) -> None:
        self._model, self._matrices, self._tape = model, (experts.gate_up, experts.down), tape

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tape, name)

    def routing(self, layer: int, routing: Routing) -> None:
        self._tape.routing(layer, routing)
        hit = sorted({expert for ids_K in routing.expert_ids_TK.tolist() for expert in ids_K})
        for matrices in self._matrices:
            matrices.announce(hit)
        self._model.announce_next(layer)
        for matrices in self._matrices:
            matrices.start()


class _Remembered:
    """A layer of an earlier run: gives back what was recorded, and for the last one the residual stream."""

    def __init__(self, partial: Partial | None, layer: int, last: bool) -> None:
        assert partial is not None
        self._partial, self._layer, self._last = partial, layer, last

    def __call__(
        self, x_BTD: Tensor, rotations_TR: Tensor, cache: Any, tape: Recorder, edit: Any, selection: Any
    ) -> Any:
        tensors: Mapping[str, Tensor] = self._partial.read(self._layer, x_BTD.device)
        tape.restore(self._layer, tensors)
        if not self._last:
            return x_BTD, selection
        parts = [tensors.get(f"selection.{name}") for name in Selection._fields]
        return tensors["residual"], Selection(*parts) if parts[0] is not None else None  # type: ignore[arg-type]
