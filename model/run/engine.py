"""Runs requests on a model and returns their traces.

One engine serves many sessions at once: its weights are only read, and everything that changes (cache, recorder, random
generator, edit) belongs to one run. A run takes a turn for each forward pass (`model/run/turns.py`) and never holds it
across a `yield`, so that a run can be abandoned at any token without blocking others.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from model.checkpoint import beside
from model.checkpoint.device import choose_device
from model.checkpoint.embedded import find_model, name_of
from model.checkpoint.files import ModelFolder
from model.checkpoint.header import CheckpointError
from model.checkpoint.memory import memory_bytes
from model.checkpoint.sizes import model_sizes
from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.vocabulary import no_tokenizer
from model.checkpoint.weights import inspect, load_model, skeleton, weight_bytes
from model.network.config import ModelConfig
from model.network.edit import RoutingEdit
from model.network.layout import lay_out_for_decoding
from model.network.transformer import Transformer
from model.run.abilities import Abilities, of_own_network
from model.run.capture import check_capture
from model.run.decoding import Decoding
from model.run.entries import model_entry, origin_entry
from model.run.from_disk import DiskModel, DiskRun, Stopped
from model.run.partial import Partial
from model.run.recorder import Recorder, join_steps
from model.run.request import RequestError, RunRequest
from model.run.routing_edit import routing_edit
from model.run.sharding import load_sharded
from model.run.step import Progress, Step, last
from model.run.turns import PASSES, SECONDS_BETWEEN_CHECKS
from model.run.words import check_ids, check_length, next_step
from model.trace.trace import DIMS, Trace

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Engine:
    """A loaded model with its tokenizer, shared by all sessions."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer | None, name: str, folder: Path, disk: DiskModel | None = None
    ) -> None:
        """Make an engine; if `disk` is given, `model` stays an empty skeleton, and each run reads its own weights."""
        self.model = model.eval() if disk else lay_out_for_decoding(model.eval())
        self.tokenizer, self.name, self.folder, self.disk = tokenizer, name, folder, disk
        self.config: ModelConfig = model.config
        weight = model.embedding.weight
        self.device, self.dtype = (disk.device, disk.dtype) if disk else (weight.device, weight.dtype)
        self.context = self.config.max_positions  # largest number of tokens of a run
        self.abilities: Abilities = of_own_network(self.config, from_disk=disk is not None)

    @property
    def shape(self) -> ModelConfig:
        """The axes of a run."""
        return self.config

    @classmethod
    def load(
        cls,
        model: str | Path,
        device: str = "auto",
        dtype: str = "float32",
        context: int | None = None,
        shard: bool = False,
        with_text: bool = True,
    ) -> "Engine":
        """Return an engine for an embedded model, by name, or for a folder in the Hugging Face layout.

        Args:
            model: name of an embedded model, or path of a folder.
            device: name of a PyTorch device; "auto" chooses one.
            dtype: a key of `DTYPES`.
            context: largest number of tokens of a run; None: the number in the configuration. A larger number allows
                runs longer than the model was trained for, to measure time and memory.
            shard: spread the layers over all GPUs of this machine.
            with_text: read the tokenizer, too; without it, runs take token ids only.

        Raises:
            CheckpointError, ConfigError: the folder cannot be read, or its weights do not fit in memory.
            RequestError: the dtype is not known, or the layers cannot be spread.
            DeviceError: this machine lacks the device.
        """
        if dtype not in DTYPES:
            raise RequestError(f"dtype {dtype!r} is not known; choose from {', '.join(DTYPES)}")
        folder = find_model(model)
        if shard and device not in ("auto", "cuda"):
            raise RequestError(f"layers are spread over GPUs, not over {device!r}; use --device cuda")
        network = load_sharded(folder, DTYPES[dtype]) if shard else _load(folder, device, DTYPES[dtype])
        tokenizer = Tokenizer.load(folder) if with_text and (folder / "tokenizer.json").is_file() else None
        engine = cls(network, tokenizer, name_of(folder), folder)
        engine.context = context or engine.context
        return engine

    @classmethod
    def fitting(cls, model: str | Path, with_text: bool = True) -> "Engine":
        """Return an engine in fp32 if the weights take at most two thirds of the memory, else one that runs from disk.

        Without `with_text`, the tokenizer is not read, and runs take token ids only.

        Raises:
            CheckpointError, ConfigError, DeviceError, RequestError: as for `load`.
        """
        needed, memory = model_sizes(inspect(find_model(model)).config).loaded["float32"], memory_bytes()
        is_large = bool(memory) and needed > (memory or 0) * 2 / 3
        return (cls.from_disk if is_large else cls.load)(model, with_text=with_text)

    @classmethod
    def from_disk(
        cls, model: str | Path, device: str = "auto", dtype: str = "float32", with_text: bool = True
    ) -> "Engine":
        """Return an engine whose weights stay on the disk; a run reads each layer when it computes the layer.

        A run from disk generates no tokens, because every generated token would read all layers again.

        Raises:
            CheckpointError, ConfigError, DeviceError, RequestError: as for `load`.
        """
        if dtype not in DTYPES:
            raise RequestError(f"dtype {dtype!r} is not known; choose from {', '.join(DTYPES)}")
        folder = find_model(model)
        manifest = inspect(folder)
        if manifest.problems:
            raise CheckpointError(f"{folder}: {manifest.summary}")
        disk = DiskModel(ModelFolder(folder), manifest.config, choose_device(device), DTYPES[dtype])
        tokenizer = Tokenizer.load(folder) if with_text and (folder / "tokenizer.json").is_file() else None
        return cls(skeleton(disk.config, disk.dtype), tokenizer, name_of(folder), folder, disk)

    def open_partial(self, folder: Path, request: RunRequest) -> Partial:
        """Open the folder of finished layers of the request's run, or create it; `stream` and `run` take the result.

        Raises:
            RequestError: the weights are in memory, or the folder holds another run or other files.
        """
        if self.disk is None:
            raise RequestError(f"{self.name} is in memory; only a run from the disk keeps finished layers")
        run = {"request": request.to_json(), "config": self.config.to_json(), "dtype": str(self.dtype)}
        return Partial(folder, run | {"weights": str(self.folder.resolve())})

    def encode(self, request: RunRequest) -> list[int]:
        """Return the token ids of the prompt: the request's ids, or a beginning-of-sequence token and the text's ids.

        Raises:
            RequestError: the ids do not exist, the text cannot be encoded, or the run would not fit the context.
        """
        ids = list(request.token_ids) if request.token_ids is not None else self._encode_text(request)
        check_ids(ids, self.config.vocab_size)
        self.abilities.check(request)
        check_length(ids, request, self.context)
        return ids

    @functools.cached_property
    def notes(self) -> tuple[str, ...]:
        """Sentences on the model's folder that a user may not expect."""
        return tuple(beside.notes(inspect(self.folder), self.folder))

    def check(self, request: RunRequest) -> None:
        """Check that the request can be run.

        Raises:
            RequestError, EditError: it cannot; the message says why.
        """
        self._checked(request)

    def _checked(self, request: RunRequest) -> tuple[list[int], RoutingEdit | None]:
        ids = self.encode(request)
        check_capture(self.config, request, len(ids))
        return ids, routing_edit(request.interventions, self.config, self.device)

    def _encode_text(self, request: RunRequest) -> list[int]:
        if self.tokenizer is None:
            raise RequestError(no_tokenizer(self.folder))
        encode = self.tokenizer.encode_turn if request.chat else self.tokenizer.encode
        return [*self.tokenizer.first_ids, *encode(request.prompt or "")]

    def run(
        self,
        request: RunRequest,
        cancel: threading.Event | None = None,
        on_layer: Callable[[Progress], None] = lambda progress: None,
        partial: Partial | None = None,
    ) -> Trace:
        """Run a request to its end, or until `cancel` is set, and return the trace; see `stream`."""
        return last(self.stream(request, cancel, on_layer, partial))

    @torch.inference_mode()
    def stream(
        self,
        request: RunRequest,
        cancel: threading.Event | None = None,
        on_layer: Callable[[Progress], None] = lambda progress: None,
        partial: Partial | None = None,
    ) -> Generator[Step, None, Trace]:
        """Run a request; yield each step, and return the trace of all steps.

        Every token is fed, also the last generated one. Generation ends at `max_new_tokens`, after an end-of-sequence
        token, or once `cancel` is set. The run checks `cancel` between steps and while it waits for its turn; the trace
        then holds the finished steps.

        A run from disk is a single step. It checks `cancel` before each layer, and calls `on_layer` after each layer.
        While it waits for another run of the model, it checks `cancel` and reports 0 finished layers at intervals. With
        `partial` (see `open_partial`) it starts after the stored layers, and stores each layer that it finishes.

        Raises:
            Stopped: `cancel` was set before the first step, or during a run from disk; there is no trace.
            RequestError, EditError: the request cannot be run (raised before the first step), or the logits are not
                finite, so no token can be chosen.
        """
        ids, edit = self._checked(request)
        capacity = len(ids) + request.max_new_tokens
        disk_run = DiskRun(self.disk, partial) if self.disk else None
        model = disk_run.model if disk_run else self.model
        decoding = Decoding(model, request, capacity, edit, self.device, self.dtype)
        steps: list[Step] = []
        new_ids = ids
        while True:
            with self._turn(cancel, on_layer) as has_turn:
                if not has_turn:
                    break
                blocks = disk_run.blocks(decoding.recorder, cancel, on_layer) if disk_run else None
                new_ids, arrays = decoding.advance(new_ids, blocks)
            steps.append(next_step(self.tokenizer, steps, new_ids, arrays))
            yield steps[-1]
            if decoding.length >= capacity or new_ids[-1] == self.config.eos_id and len(steps) > 1:
                break
            if cancel is not None and cancel.is_set():
                break
            new_ids = [decoding.next_id]
        if not steps:
            raise Stopped("stopped before its turn came")
        if decoding.is_behind:  # the run ended early; a run from disk never does
            with PASSES.turn():
                decoding.catch_up()
        return self._trace(request, model, decoding, steps)

    @contextlib.contextmanager
    def _turn(self, cancel: threading.Event | None, on_layer: Callable[[Progress], None]) -> Iterator[bool]:
        """Hold a turn for a step; yield False if `cancel` was set before.

        A run from disk waits for the disk, not for a processor: it takes no turn, but only one run of a model reads.
        """
        if self.disk is None:
            with PASSES.turn(cancel) as has_turn:
                yield has_turn
            return
        while not self.disk.lock.acquire(timeout=SECONDS_BETWEEN_CHECKS):
            if cancel is not None and cancel.is_set():
                yield False
                return
            on_layer(Progress(0, self.config.num_layers, 0, 0.0))
        try:
            yield True
        finally:
            self.disk.lock.release()

    def _trace(self, request: RunRequest, model: Transformer, decoding: Decoding, steps: list[Step]) -> Trace:
        arrays = join_steps([step.arrays for step in steps]) | decoding.draft_arrays()
        if "router_score" in arrays:
            biases = [router.expert_bias.float().cpu() for router in model.routers()]  # layers may be on several GPUs
            arrays["expert_bias"] = torch.stack(biases).numpy()
        return Trace(
            data=xr.Dataset(
                {name: (DIMS[name], values) for name, values in arrays.items()},
                coords=self._coords(decoding.recorder, arrays),
            ),
            tokens=tuple(token for step in steps for token in step.tokens),
            text=steps[-1].text,
            request=request.to_json(),
            model=self.description,
            origin=origin_entry("moe-loupe", self.device, self.dtype),
        )

    def _coords(self, recorder: Recorder, arrays: dict[str, np.ndarray]) -> dict[str, list[int]]:
        coords: dict[str, list[int]] = {"layer": list(range(self.config.num_layers))}
        if "router_score" in arrays:
            coords["moe_layer"] = list(self.config.moe_layers)
        if "attention" in arrays:
            coords |= {"attention_layer": list(recorder.attention_layers), "head": list(recorder.heads)}
        if "indexer_score" in arrays:
            coords["indexer_layer"] = list(recorder.indexer_layers)
        return coords

    @property
    def description(self) -> dict[str, Any]:
        """The `model` entry in the traces of this engine."""
        return self._description

    @functools.cached_property
    def _description(self) -> dict[str, Any]:
        return model_entry(self.name, self.config.to_json(), None if self.disk else self.folder, self.tokenizer)


def _load(folder: Path, device: str, dtype: torch.dtype) -> Transformer:
    """Return the network of a folder, loaded onto one device."""
    return load_model(folder, choose_device(device, weight_bytes(inspect(folder).config, dtype)), dtype)


def spare_cores(count: int) -> None:
    """Leave `count` cores to other programs by using fewer threads, unless OMP_NUM_THREADS is set.

    The threads of a product wait for each other. If another program uses one of their cores, each of the hundred
    products of a step waits for the scheduler (measured on two cores, with a browser on the same machine: 7 tokens a
    second with two threads, 80 with one).
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) - count)))
