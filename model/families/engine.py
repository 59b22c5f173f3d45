"""Runs requests on a model that transformers computes, and returns their traces.

It serves every mixture of experts that transformers can build; `model.run.engine.Engine` runs the own network. Both
satisfy `model.run.protocol.LocalEngineProtocol`. The hooks of `model.families.seam` record each forward pass. The
prompt is one pass, and each generated token is one more: some families compute other numbers if a later pass has
several tokens.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from model.checkpoint.device import choose_device
from model.checkpoint.embedded import name_of
from model.checkpoint.header import CheckpointError, first_line
from model.checkpoint.tokenizer import Tokenizer, TokenizerError
from model.checkpoint.vocabulary import no_tokenizer
from model.families.capture import check_capture
from model.families.edit import edits, missing
from model.families.ends import context_of, eos_ids
from model.families.folder import Opened, open_folder
from model.families.probed import Layout, fed, probe_or_refuse
from model.families.recorder import FamilyRecorder
from model.families.tape import Tape
from model.run.abilities import INTERVENTIONS, Abilities
from model.run.engine import DTYPES
from model.run.entries import model_entry, origin_entry
from model.run.from_disk import Stopped
from model.run.interventions import TopK
from model.run.recorder import join_steps
from model.run.request import CAPTURE_NAMES, RequestError, RunRequest
from model.run.sampling import choose
from model.run.step import Progress, Step, last
from model.run.turns import PASSES, SECONDS_BETWEEN_CHECKS
from model.run.words import check_ids, check_length, next_step
from model.trace.trace import DIMS, Trace

UNRECORDED = {
    "indexer": "transformers does not return the scores of an indexer; only the own network records them",
    "drafts": "a model that transformers runs makes no drafts; only the own network does",
}
HEADS_LATER = "attention of a model that transformers runs is recorded during the run, not computed afterwards"
SEVERAL_STREAMS = "this model has several residual streams, so its layers have no single input to record"
NO_ATTENTION = "no layer of this model has attention weights that can be recorded"
FROM_DISK = "the weights of this model wait on the disk; each generated token would read all of them again"


class TransformersEngine:
    """A model that transformers runs, with its tokenizer, shared by all sessions."""

    def __init__(
        self, opened: Opened, tokenizer: Tokenizer | None, name: str, folder: Path, no_text: str | None = None
    ) -> None:
        """Instrument a model and run a probe, which finds the router's rule.

        Args:
            opened: the model.
            tokenizer: its tokenizer; None: runs take token ids only.
            name: name of the model.
            folder: its folder.
            no_text: why the vocabulary of the folder cannot be read, if this is so.

        Raises:
            CheckpointError: no layer sends a text to experts, or its layers differ in the number of experts.
        """
        self.model, self.tokenizer, self.name, self.folder = opened.model, tokenizer, name, folder
        self.config, text_config = opened.config, opened.text_config
        embedding: Any = self.model.get_input_embeddings()
        weight: torch.Tensor = embedding.weight
        self.device = torch.device("cpu") if weight.is_meta else weight.device
        self.dtype = weight.dtype
        self.probed = probe_or_refuse(self.model, text_config, self.device, opened.offloaded, self.name)
        text_notes = ([no_text] if no_text else []) if tokenizer is None else tokenizer.notes
        self.notes, self._no_text = (*opened.notes, *self.probed.notes, *text_notes), no_text
        self.offloaded, self.context = opened.offloaded, context_of(text_config)
        self.eos_ids = eos_ids(folder, text_config)
        self.abilities = self._abilities()
        self._possible_top_k: set[int] = set()
        self.lock = threading.Lock()  # held for a forward pass if the weights wait on the disk

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "auto",
        dtype: str | None = None,
        with_text: bool = True,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        cancel: threading.Event | None = None,
    ) -> "TransformersEngine":
        """Return an engine for a folder in the Hugging Face layout.

        Args:
            folder: the folder.
            device: name of a PyTorch device; "auto" chooses one.
            dtype: a key of `model.run.engine.DTYPES`; None: that of the folder.
            with_text: read the tokenizer, too; without it, runs take token ids only.
            on_progress: called with the bytes read and all bytes.
            cancel: once it is set, loading ends.

        Raises:
            CheckpointError, LoadingStopped: the folder cannot be opened, or loading was stopped.
            RequestError: the dtype is not known.
            DeviceError: this machine lacks the device.
        """
        if dtype is not None and dtype not in DTYPES:
            raise RequestError(f"dtype {dtype!r} is not known; choose from {', '.join(DTYPES)}")
        wanted = None if dtype is None else DTYPES[dtype]
        opened = open_folder(folder, choose_device(device), wanted, on_progress=on_progress, cancel=cancel)
        tokenizer, no_text = None, None
        if with_text and (folder / "tokenizer.json").is_file():
            try:
                tokenizer = Tokenizer.load(folder)
            except (TokenizerError, CheckpointError) as error:
                no_text = str(error)
        return cls(opened, tokenizer, name_of(folder), folder, no_text)

    @property
    def shape(self) -> Layout:
        """The axes of a run."""
        return self.probed.layout

    def _abilities(self) -> Abilities:
        reasons = dict(UNRECORDED) | {"heads_later": HEADS_LATER} | missing(self.probed.found)
        if not self.probed.has_one_stream:
            reasons["inputs"] = SEVERAL_STREAMS
        if not self.probed.attention:
            reasons["attention"] = NO_ATTENTION
        if self.offloaded:
            reasons["new_tokens"] = FROM_DISK
        return Abilities(
            captures=frozenset(CAPTURE_NAMES) - reasons.keys(),
            interventions=INTERVENTIONS - reasons.keys(),
            new_tokens=not self.offloaded,
            heads_later=False,
            exclusive=self.offloaded,
            attention_layers=tuple(sorted(self.probed.attention)),
            missing=reasons,
        )

    def encode(self, request: RunRequest) -> list[int]:
        """Return the token ids of the prompt: the request's ids, or the first tokens of a run and the text's ids.

        Raises:
            RequestError: the ids do not exist, the text cannot be encoded, or the run would not fit the context.
        """
        ids = list(request.token_ids) if request.token_ids is not None else self._encode_text(request)
        check_ids(ids, self.shape.vocab_size)
        check_length(ids, request, self.context)
        return ids

    def _encode_text(self, request: RunRequest) -> list[int]:
        if self.tokenizer is None:
            raise RequestError(self._no_text or no_tokenizer(self.folder))
        encode = self.tokenizer.encode_turn if request.chat else self.tokenizer.encode
        return [*self.tokenizer.first_ids, *encode(request.prompt or "")]

    def check(self, request: RunRequest) -> None:
        """Check that the request can be run.

        Raises:
            RequestError: it cannot; the message says why.
        """
        self._start(request)

    def _start(self, request: RunRequest) -> tuple[list[int], FamilyRecorder]:
        self.abilities.check(request)
        ids = self.encode(request)
        check_capture(self.probed, request, len(ids))
        changes = edits(request.interventions, self.probed.found, self.probed.paths)
        for change in request.interventions:
            if isinstance(change, TopK):
                self._try_top_k(change)
        return ids, FamilyRecorder(self.probed, request.capture, changes)

    def _try_top_k(self, change: TopK) -> None:
        """Run two tokens with another top-k, once for each: the code of a few families fixes the number.

        Raises:
            RequestError: this family cannot run with it.
        """
        if change.k in self._possible_top_k:
            return
        tape = Tape(edits((change,), self.probed.found, self.probed.paths), routing=False, norms=False)
        try:
            with self._turn(None), tape.running(), torch.inference_mode():
                fed(self.model, torch.tensor([0, 1], device=self.device))
        except (ValueError, RuntimeError, IndexError) as error:
            raise RequestError(
                f"transformers cannot run {self.name} with {change.k} experts per token: {first_line(error)}"
            ) from None
        self._possible_top_k.add(change.k)

    def run(
        self,
        request: RunRequest,
        cancel: threading.Event | None = None,
        on_layer: Callable[[Progress], None] = lambda progress: None,
    ) -> Trace:
        """Run a request to its end, or until `cancel` is set, and return the trace; see `stream`."""
        return last(self.stream(request, cancel, on_layer))

    @torch.inference_mode()
    def stream(
        self,
        request: RunRequest,
        cancel: threading.Event | None = None,
        on_layer: Callable[[Progress], None] = lambda progress: None,
    ) -> Generator[Step, None, Trace]:
        """Run a request; yield each step, and return the trace of all steps.

        Every token is fed, also the last generated one. Generation ends at `max_new_tokens`, after an end-of-sequence
        token, or once `cancel` is set. The run checks `cancel` between steps; the trace then holds the finished steps.
        `on_layer` is never called. A turn is held for one forward pass, never across a `yield`.

        Raises:
            Stopped: `cancel` was set before the first step; there is no trace.
            RequestError: the request cannot be run (raised before the first step), or the logits are not finite.
        """
        ids, recorder = self._start(request)
        generator, steps, cache = torch.Generator().manual_seed(request.seed), list[Step](), None
        new_ids, capacity = ids, len(ids) + request.max_new_tokens
        while True:
            with self._turn(cancel) as has_turn:
                if not has_turn:
                    break
                logits_TV, cache = self._forward(new_ids, recorder, cache)
                next_id = choose(logits_TV[-1], request, generator)
                steps.append(next_step(self.tokenizer, steps, new_ids, recorder.take(new_ids, [logits_TV])))
            yield steps[-1]
            if recorder.tape.position >= capacity or new_ids[-1] in self.eos_ids and len(steps) > 1:
                break
            if cancel is not None and cancel.is_set():
                break
            new_ids = [next_id]
        if not steps:
            raise Stopped("stopped before its turn came")
        return self._trace(request, recorder, steps)

    @contextlib.contextmanager
    def _turn(self, cancel: threading.Event | None) -> Iterator[bool]:
        """Hold a turn for a forward pass; yield False if `cancel` was set before.

        A pass whose weights wait on the disk takes no turn, but only one pass of a model reads.
        """
        if not self.offloaded:
            with PASSES.turn(cancel) as has_turn:
                yield has_turn
            return
        while not self.lock.acquire(timeout=SECONDS_BETWEEN_CHECKS):
            if cancel is not None and cancel.is_set():
                yield False
                return
        try:
            yield True
        finally:
            self.lock.release()

    def _forward(self, token_ids: list[int], recorder: FamilyRecorder, cache: Any) -> tuple[torch.Tensor, Any]:
        """Return the logits of the tokens, [T, V], and the cache with them."""
        token_ids_T = torch.tensor(token_ids, device=self.device)
        with recorder.tape.running():
            output = fed(self.model, token_ids_T, recorder.tape.position, cache)
        if self.offloaded and not bool(output.logits.isfinite().all()):
            raise RequestError(
                f"transformers computes logits of {self.name} that are not finite while its weights wait on the disk; "
                "run it on a machine whose memory holds it"
            )
        return output.logits[0], output.past_key_values

    def _trace(self, request: RunRequest, recorder: FamilyRecorder, steps: list[Step]) -> Trace:
        arrays, facts, found = join_steps([step.arrays for step in steps]), self.probed.facts, self.probed.found
        if facts.rule is not None and not recorder.follows_rule():
            facts = self.probed.without_rule
            for name in ("router_score", "group_score", "group_kept"):
                arrays.pop(name, None)
        if "router_score" in arrays:
            arrays |= {"expert_bias": found.bias} if found.bias is not None else {}
            arrays |= {"expert_factor": found.factor} if found.factor is not None else {}
        entries = {"shape": self.probed.shape.to_json(), "router": facts.to_json()}
        return Trace(
            data=xr.Dataset(
                {name: (DIMS[name], values) for name, values in arrays.items()},
                coords=self._coords(recorder, arrays),
            ),
            tokens=tuple(token for step in steps for token in step.tokens),
            text=steps[-1].text,
            request=request.to_json(),
            model=self.description | entries,
            origin=origin_entry("transformers", self.device, self.dtype, "transformers")
            | ({"notes": list(self.tokenizer.notes)} if self.tokenizer and self.tokenizer.notes else {}),
        )

    def _coords(self, recorder: FamilyRecorder, arrays: dict[str, np.ndarray]) -> dict[str, list[int]]:
        coords: dict[str, list[int]] = {"layer": list(range(self.shape.num_layers))}
        if "expert_id" in arrays:
            coords["moe_layer"] = list(self.shape.moe_layers)
        if "attention" in arrays:
            coords |= {"attention_layer": list(recorder.attention_layers), "head": list(recorder.heads)}
        return coords

    @property
    def description(self) -> dict[str, Any]:
        """The entries of `Trace.model` that do not depend on the run."""
        return self._description

    @functools.cached_property
    def _description(self) -> dict[str, Any]:
        return model_entry(self.name, self.config, None if self.offloaded else self.folder, self.tokenizer)
