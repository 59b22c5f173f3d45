"""Opens a model folder of any mixture-of-experts family through transformers.

transformers gets a configuration object and a slice per tensor, never the folder, so that it opens no file, runs no
code, and sends no request. A first load without data finds tensors that are missing or do not fit, in seconds.
"""

import copy
import dataclasses
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from model.checkpoint.files import ModelFolder
from model.checkpoint.header import CheckpointError, first_line
from model.families.blocks import refuse_unequal, structure_of
from model.families.caveats import caveats
from model.families.default_dtype import use_it
from model.families.opening import turn
from model.families.placement import Placement, place
from model.families.published import DECODED, Published, read_published
from model.families.stored import LoadingStopped, OnProgress, Reader, Stop, unread
from model.families.waiting import make_folder
from model.families.widened import cast

_MOST_NAMED = 3

use_it()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A model in evaluation mode, frozen, and what to know about it."""

    model: PreTrainedModel
    config: Mapping[str, Any]  # config.json as published
    text_config: PretrainedConfig  # of the language model, also within a multimodal model
    notes: tuple[str, ...]  # what a user may not expect, one line each
    offloaded: bool  # weights move to their device during a pass, so one run at a time is possible


def open_folder(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype | None = None,
    limit_bytes: int | None = None,
    on_progress: OnProgress = lambda done, total: None,
    cancel: threading.Event | None = None,
) -> Opened:
    """Return the model of a folder.

    Args:
        folder: a folder in the Hugging Face layout, with safetensors.
        device: "cpu", or "cuda" for all GPUs of this machine, or one GPU.
        dtype: dtype of the weights; None: as published.
        limit_bytes: memory that the weights may take on `device`; the rest waits on the disk. None: what is free.
        on_progress: called with the bytes read and all bytes, after each tensor.
        cancel: once it is set, loading ends before the next tensor is read.

    Raises:
        CheckpointError: the folder cannot be opened, or its tensors are not those of the model; one line says why.
        LoadingStopped: `cancel` was set.
    """
    with ModelFolder(folder) as files, turn(folder, cancel):
        published = read_published(files)
        skeleton, notes = read_skeleton(files, published, dtype)
        placement = place(skeleton, structure_of(skeleton).layers, device, limit_bytes)
        model_types = {skeleton.config.model_type, skeleton.config.get_text_config().model_type}
        notes = (*notes, *caveats(model_types, from_disk=placement.disk_bytes > 0))
        reader = Reader(files.tensors, on_progress, cancel)
        try:
            model, report = _load(files, published, reader.tensors, dtype, placement)
        except Stop:
            raise LoadingStopped(f"loading {folder} was stopped; nothing was kept") from None
        finally:
            reader.close()
        _check(files, report)
        notes = [*published.notes, *notes, *_put_back(model, files), *_about_disk(placement)]
        model.requires_grad_(False).eval()
        if placement.offloaded or published.quant_method not in (None, *DECODED):
            _try_pass(files, model, placement.offloaded)
    return Opened(model, published.config, model.config.get_text_config(), tuple(notes), placement.offloaded)


def read_skeleton(
    files: ModelFolder,
    published: Published,
    dtype: torch.dtype | None = None,
    most_seconds: float | None = None,
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Return the model without data, on the meta device, and notes on tensors that it does not read.

    Args:
        files: the opened folder.
        published: its configuration.
        dtype: dtype of the weights; None: as published.
        most_seconds: longest wait for another model that is being loaded; None: without limit.

    Raises:
        CheckpointError: the model has no experts, its layers differ in their experts, its tensors and those of the
            folder are not the same, or the wait took too long.
    """
    with turn(files.path, most_seconds=most_seconds):
        if published.quant_method not in (None, *DECODED):  # their packages need data
            with torch.device("meta"):
                return _with_experts(published.model_class(copy.deepcopy(published.settings)), published), ()
        meta = Placement({"": "meta"}, 0, 0)
        model, report = _load(files, published, unread(files.tensors), dtype, meta)
        _with_experts(model, published)
        return model, _check(files, report) if files.has_weights else ()


def _with_experts(model: PreTrainedModel, published: Published) -> PreTrainedModel:
    blocks = [block for block in structure_of(model).blocks.values() if not block.rests]
    if not blocks:
        raise CheckpointError(
            f"no layer of {published.config['model_type']!r} hands a router's selection to experts, so there is "
            "nothing to show; a dense model has no routing"
        )
    refuse_unequal({(block.num_experts, block.stated_top_k, block.num_computing) for block in blocks})
    return model


def _load(
    files: ModelFolder,
    published: Published,
    tensors: Mapping[str, Any],
    dtype: torch.dtype | None,
    placement: Placement,
) -> tuple[PreTrainedModel, Mapping[str, Any]]:
    """Return the model that transformers makes of the tensors, and its report on them."""
    waiting = make_folder() if placement.disk_bytes else None
    keeps_dtype = dtype is None or published.quant_method not in (None, *DECODED)
    wanted = published.dtype if keeps_dtype or dtype is None else dtype
    try:
        model, report = published.model_class.from_pretrained(
            None,
            config=copy.deepcopy(published.settings),
            state_dict=tensors,
            dtype=wanted,
            device_map=dict(placement.device_map),
            offload_folder=waiting,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the report names them, and they are refused
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except BaseException as error:
        if waiting is not None:
            shutil.rmtree(waiting, ignore_errors=True)
        if isinstance(error, CheckpointError | MemoryError) or not isinstance(error, Exception):
            raise
        raise CheckpointError(f"{files.path}: transformers cannot load these tensors: {first_line(error)}") from error
    if waiting is not None:
        weakref.finalize(model, shutil.rmtree, waiting, ignore_errors=True)
    if published.quant_method in DECODED and wanted != published.dtype:
        cast(model, wanted)
    return model, report


def _check(files: ModelFolder, report: Mapping[str, Any]) -> tuple[str, ...]:
    """Return notes on the harmless differences in a loading report, and refuse all others."""
    wrong = [f"{name} is missing, so its values would be made up" for name in sorted(report["missing_keys"])]
    shapes = {name: (list(stored), list(needed)) for name, stored, needed in report["mismatched_keys"]}
    wrong += [f"{name} has shape {a}, the configuration asks for {b}" for name, (a, b) in sorted(shapes.items())]
    unexpected = sorted(report["unexpected_keys"])
    wrong += [f"{name} has no place in the model" for name in unexpected if not _is_harmless(name, files.config)]
    if wrong:
        more = f" (and {len(wrong) - _MOST_NAMED:,} more)" if len(wrong) > _MOST_NAMED else ""
        raise CheckpointError(f"{files.path}: {'; '.join(wrong[:_MOST_NAMED])}{more}; take a complete checkpoint")
    further = [name for name in files.tensors if _is_further_layer(name, files.config)]
    if not further:
        return ()
    return (f"{len(further):,} tensors of multi-token prediction are not run, such as {further[0]}",)


def _is_harmless(name: str, config: Mapping[str, Any]) -> bool:
    return name.endswith("rotary_emb.inv_freq") or _is_further_layer(name, config)


def _is_further_layer(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a tensor belongs to a multi-token-prediction module, which transformers does not run."""
    text = config.get("text_config")
    layers = (text if isinstance(text, Mapping) else config).get("num_hidden_layers")
    number = re.search(r"(?:^|\.)layers\.(\d{1,9})\.", name)
    beyond = isinstance(layers, int) and number is not None and int(number[1]) >= layers
    return beyond and "vis" not in name or re.search(r"(^|\.)mtp(_\w+)?\.", name) is not None


def _put_back(model: PreTrainedModel, files: ModelFolder) -> tuple[str, ...]:
    """Write the file's values over small router tensors that transformers changed on loading; return a note on them.

    Zaya's initialisation overwrites an entry of a selection bias. Tensors that wait on the disk come from the file.
    """
    changed, reader = [], Reader(files.tensors)
    for block in structure_of(model).blocks.values():
        for name, tensor in block.tensors().items():
            stored = reader.tensors.get(f"{block.path}.{name}")
            if stored is None or tensor.dim() != 1 or stored.get_shape() != list(tensor.shape):
                continue
            value = stored[...].to(tensor.device, tensor.dtype)
            if not torch.equal(value, tensor):
                tensor.copy_(value)
                changed.append(f"{block.path}.{name}")
    reader.close()
    if not changed:
        return ()
    count = f"{len(changed)} router tensors" if len(changed) > 1 else "a router tensor"
    return (f"transformers replaced {count} on loading, such as {changed[0]}; the file's values were put back",)


@torch.no_grad()
def _try_pass(files: ModelFolder, model: PreTrainedModel, offloaded: bool) -> None:
    """Run two tokens: a few families cannot compute with layers on the disk, and packages unpack weights in a pass."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    ids = torch.tensor([[0, 1]], device=weight.device)
    try:
        is_finite = bool(model(input_ids=ids, position_ids=ids, use_cache=False).logits.isfinite().all())
    except (RuntimeError, NotImplementedError) as error:
        cause = first_line(error)
    else:
        if is_finite:
            return
        cause = "its logits are not finite"
    model_type = files.config["model_type"]
    if not offloaded:
        raise CheckpointError(
            f"{files.path}: {model_type!r} cannot compute with its quantised weights ({cause}); take the checkpoint in "
            "bfloat16"
        )
    how = f"{model_type!r} cannot compute with its weights on several devices or on the disk"
    raise CheckpointError(
        f"{files.path}: {how} ({cause}); free memory, or use a narrower dtype, so that they fit in it"
    )


def _about_disk(placement: Placement) -> tuple[str, ...]:
    if not placement.disk_bytes:
        return ()
    size, total = placement.disk_bytes / 1e9, placement.num_bytes / 1e9
    return (
        f"{size:,.1f} GB of {total:,.1f} GB of weights wait in {tempfile.gettempdir()} and are read in every pass; "
        "the copy is deleted when the model is closed",
    )
