"""Loads and saves checkpoints, and compares the tensors of a folder with its configuration.

A multi-token-prediction (MTP) layer is used if the folder holds all its tensors, whether or not the configuration
announces it. Its copies of embedding and head are not read. `names.py` has the published names.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint.files import CONFIG_NAME, INDEX_NAME, SINGLE_NAME, ModelFolder
from model.checkpoint.fp8 import QUANTIZATION, grid, quantise, quantization_problem
from model.checkpoint.header import SCALED_DTYPE, CheckpointError, StoredTensor
from model.checkpoint.layouts import likely_cause
from model.checkpoint.memory import free_bytes, memory_bytes
from model.checkpoint.names import Slot, mtp_prefix, mtp_slots, scale_name, scaled_weight, slots, used_slots
from model.network.config import ConfigError, ModelConfig
from model.network.layers import RotaryTable
from model.network.moe import Router
from model.network.transformer import Transformer
from model.trace.writing import replacing

# The released 671 B model has 61 and 256. Far larger numbers are damage, and would make the list of tensors too long.
_LARGEST = {"num_hidden_layers": 1_000, "n_routed_experts": 10_000}
_MOST_EXPERTS = 200_000  # in all layers together
# Ends of the names of parameters that FP8 checkpoints do not quantise.
_NOT_FP8 = ("embedding.weight", "head.weight", "router.weight", "indexer.head_weights.weight", "mtp.join.weight")


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """The tensors of a model folder compared with its configuration, from the headers alone."""

    config: ModelConfig
    published: Mapping[str, Any]  # the object in config.json
    stored: Mapping[str, StoredTensor]  # every tensor in the folder by its published name
    present: tuple[StoredTensor, ...]  # required tensors that the folder holds, in the order of `used_slots`; no scales
    missing: tuple[str, ...]  # names of required tensors that the folder lacks
    misshapen: tuple[str, ...]  # one message per tensor of a wrong shape
    unsupported: tuple[str, ...]  # one message per tensor with a dtype that is not read, or FP8 without usable scales
    surplus: tuple[str, ...]  # names of stored tensors that the configuration does not need; they are skipped
    mtp: tuple[str, ...]  # names of stored tensors of the MTP layer, with its copies of embedding and head
    mtp_problem: str  # why the MTP layer is skipped, in one line; empty if it is used or absent
    has_weights: bool  # False: the folder holds only a configuration
    repeated: tuple[str, ...] = ()  # names of tensors in several files; the index says which file is read

    @property
    def num_mtp_parameters(self) -> int:
        """Number of stored parameters of the MTP layer, with copies of embedding and head, without scales."""
        weights = (self.stored[name].shape for name in self.mtp if scaled_weight(name) not in self.stored)
        return sum(math.prod(shape) for shape in weights)

    @property
    def problems(self) -> tuple[str, ...]:
        """One message for each reason why the folder cannot be loaded; empty if it can."""
        missing = tuple(f"tensor {name} is missing" for name in self.missing)
        return self.misshapen + self.unsupported + missing

    @property
    def cause(self) -> str:
        """Why tensors are missing, and what to do, in one line; empty if none is missing or no known cause fits."""
        return likely_cause(self.stored, self.missing) if self.has_weights else ""

    @property
    def summary(self) -> str:
        """The likely cause, or the first problem and the number of others; empty if the folder can be loaded.

        Tensors of an unsupported quantisation also have other shapes; the summary names the quantisation alone.
        """
        if not self.problems:
            return ""
        if cause := self.cause:
            return f"{cause} ({len(self.missing):,} tensor{'s' if len(self.missing) > 1 else ''} missing)"
        if problem := quantization_problem(self.published):
            otherwise = "or remove the key if the weights are not quantised"
            return f"{CONFIG_NAME}: {problem}; take the original in bfloat16 or block FP8, {otherwise}"
        first, *others = self.problems
        more = f"{len(others):,} more problem{'s' if len(others) > 1 else ''}"
        return f"{first} (and {more})" if others else first


def inspect(folder: str | Path) -> Manifest:
    """Return a comparison of a folder's tensors with its configuration, without reading any weight.

    If the folder holds only `config.json`, all tensors are missing.

    Raises:
        CheckpointError: the folder, its configuration or a header cannot be used at all.
    """
    with ModelFolder(folder, needs_weights=False) as opened:
        return _compare(opened)


def weights_sha256(folder: str | Path) -> str:
    """Return the SHA-256 of a folder's weight files, concatenated in the order of their names.

    Raises:
        CheckpointError: the folder cannot be used.
    """
    with ModelFolder(folder) as opened:
        return opened.sha256()


def _compare(folder: ModelFolder) -> Manifest:
    config = _read_config(folder)
    mtp, mtp_problem = tuple(sorted(name for name in folder.tensors if name.startswith(mtp_prefix(config)))), ""
    if folder.has_weights:
        mtp_problem = _mtp_problem(folder, config) if mtp else ""
        config = dataclasses.replace(config, has_mtp=bool(mtp and not mtp_problem))
    needed = used_slots(config) if folder.has_weights else slots(config)  # an announced layer may be absent
    expected = {slot.published: slot for slot in needed}
    matches = [(slot, folder.tensors[name]) for name, slot in expected.items() if name in folder.tensors]
    used = {stored.name for _, stored in matches}
    used |= {scale_name(stored.name) for _, stored in matches if stored.dtype == SCALED_DTYPE}
    used |= set(mtp)
    return Manifest(
        config=config,
        published=folder.config,
        stored=folder.tensors,
        present=tuple(stored for _, stored in matches),
        missing=tuple(name for name in expected if name not in folder.tensors),
        misshapen=tuple(_shape_problem(slot, stored) for slot, stored in matches if slot.shape != stored.shape),
        unsupported=_unreadable(folder, [stored.name for _, stored in matches]),
        surplus=tuple(sorted(name for name in folder.tensors if name not in used)),
        mtp=mtp,
        mtp_problem=mtp_problem,
        has_weights=folder.has_weights,
        repeated=folder.repeated,
    )


def _mtp_problem(folder: ModelFolder, config: ModelConfig) -> str:
    """Return why the folder's MTP layer cannot be used, in one line; empty if it can be used."""
    expected = list(mtp_slots(config))
    for slot in expected:
        if slot.published not in folder.tensors:
            return f"tensor {slot.published} is missing"
        if folder.tensors[slot.published].shape != slot.shape:
            return _shape_problem(slot, folder.tensors[slot.published])
    return next(iter(_unreadable(folder, [slot.published for slot in expected])), "")


def _unreadable(folder: ModelFolder, names: list[str]) -> tuple[str, ...]:
    """Return messages on why these tensors cannot be read; a message that concerns all of them occurs once."""
    general = quantization_problem(folder.config)
    lines = [f"{CONFIG_NAME}: {general}" if general else "", *(folder.problem(name) for name in names)]
    return tuple(dict.fromkeys(line for line in lines if line))


def _shape_problem(slot: Slot, stored: StoredTensor) -> str:
    return f"tensor {slot.published} has shape {list(stored.shape)}, the configuration asks for {list(slot.shape)}"


def _read_config(folder: ModelFolder) -> ModelConfig:
    for key, largest in _LARGEST.items():
        if isinstance(value := folder.config.get(key), int) and value > largest:
            raise CheckpointError(f"{folder.path / CONFIG_NAME}: {key} {value} is beyond any such model")
    counts = [count for key in _LARGEST if isinstance(count := folder.config.get(key), int)]
    if len(counts) == len(_LARGEST) and math.prod(counts) > _MOST_EXPERTS:
        size = f"{' layers of '.join(map(str, counts))} experts"
        raise CheckpointError(f"{folder.path / CONFIG_NAME}: {size} are beyond any such model")
    try:
        return ModelConfig.from_json(folder.generation_tokens() | folder.config)
    except ConfigError as error:
        raise CheckpointError(f"{folder.path / CONFIG_NAME}: {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{folder.path / CONFIG_NAME} has a value of the wrong kind ({error})") from None


def load_model(folder: str | Path, device: str | torch.device | Mapping[str, Any], dtype: torch.dtype) -> Transformer:
    """Return the model of a folder, frozen and in evaluation mode.

    Tensors are read one by one, so that memory holds the weights only once; FP8 is decoded. All parameters have
    `dtype`, except the router's selection bias, which is fp32.

    Args:
        folder: the model folder.
        device: device of the whole model, or a mapping from names of modules to devices.
        dtype: dtype of the parameters.

    Raises:
        CheckpointError: the folder cannot be used; a tensor is missing, or has a wrong shape or an unsupported dtype;
            the scales of an FP8 tensor are missing, or do not fit blocks of 128 x 128; or the weights are larger than
            the memory of this machine or of the GPU.
    """
    with ModelFolder(folder) as opened:
        manifest = _compare(opened)
        if manifest.problems:
            raise CheckpointError(f"{opened.path}: {manifest.summary}")
        placement = device if isinstance(device, Mapping) else {"": device}
        devices = {torch.device(name) for name in placement.values()}
        if len(devices) == 1:  # sharding callers check the memory of each device themselves
            _check_memory(manifest.config, dtype, *devices)
        model = _allocate(manifest.config, placement, dtype)
        state = model.state_dict()
        with torch.no_grad():
            for slot in used_slots(manifest.config):
                opened.read_into(slot.published, slot.part_of(state[slot.parameter]))
    return model.eval().requires_grad_(False)


def _check_memory(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
    """Raise an error if the weights do not fit in memory, because the system might kill a process that loads them."""
    available, memory, instead = memory_bytes(), "this machine has {:,.1f} GB of memory", ""
    if device.type == "cuda":
        available, memory, instead = free_bytes(device), "the GPU has {:,.1f} GB free", " the CPU,"
    needed = weight_bytes(config, dtype)
    if available is not None and needed > available:
        name = str(dtype).removeprefix("torch.")
        raise CheckpointError(
            f"the weights need {needed / 1e9:,.1f} GB in {name}, {memory.format(available / 1e9)}; "
            f"use a narrower dtype,{instead} or leave them on the disk"
        )


def weight_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """Return the bytes of all loaded weights."""
    return sum(stored_bytes(slot, dtype) for slot in used_slots(config))


def skeleton(config: ModelConfig, dtype: torch.dtype) -> Transformer:
    """Return a model without memory for its parameters."""
    with torch.device("meta"):
        return Transformer(config).to(dtype)


def _allocate(config: ModelConfig, placement: Mapping[str, Any], dtype: torch.dtype) -> Transformer:
    """Return a model with parameters of a dtype, allocated on their devices; their values are undefined."""
    model = skeleton(config, dtype)
    for name, device in placement.items():
        model.get_submodule(name).to_empty(device=torch.device(device))
    model.rotary = RotaryTable(config).to(model.embedding.weight.device)  # computed, not stored
    for module in model.modules():
        if isinstance(module, Router):
            zeros = torch.zeros(config.num_experts, dtype=torch.float32, device=module.weight.device)
            module.expert_bias = zeros
    return model


def save_model(
    model: Transformer,
    folder: str | Path,
    dtype: torch.dtype,
    max_shard_bytes: int | None = None,
    fp8_scales: torch.dtype | None = None,
    fp8_embedding: bool = False,
) -> None:
    """Write a model folder in the Hugging Face layout, which transformers also reads.

    transformers reads FP8 only if each width is below 128 or a multiple of 128, because it computes the block size from
    the ratio of the shapes of weight and scales.

    Args:
        model: the model.
        folder: the folder, created if it does not exist; its parent must exist. A model in the folder is replaced.
        dtype: dtype of the stored weights; the router's selection bias is always fp32.
        max_shard_bytes: largest size of a weight file, unless it holds a single tensor; None: one file, no index.
        fp8_scales: dtype of block scales, float32 or float8_e8m0fnu (powers of two): store the projections of
            attention, feed-forward blocks and experts in block FP8. None: store every tensor in `dtype`.
        fp8_embedding: store the embedding in FP8, too. Published checkpoints do not, but the embedding is a third of a
            small model.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    shards = _split(list(used_slots(model.config)), dtype, max_shard_bytes, fp8_scales)
    names = [SINGLE_NAME]
    if max_shard_bytes is not None:
        names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    state = model.state_dict()
    weight_map: dict[str, str] = {}
    total_size = 0
    for name, shard in zip(names, shards, strict=True):
        tensors: dict[str, Tensor] = {}
        for slot in shard:
            scales = fp8_scales if takes_fp8(slot, fp8_embedding) else None
            tensors |= _stored_form(slot, state[slot.parameter], dtype, scales)
        with replacing(folder / name) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        total_size += sum(tensor.nbytes for tensor in tensors.values())
    _write_json(folder / CONFIG_NAME, _config_json(model.config, dtype, fp8_scales))
    if max_shard_bytes is None:
        (folder / INDEX_NAME).unlink(missing_ok=True)
    else:
        _write_json(folder / INDEX_NAME, {"metadata": {"total_size": total_size}, "weight_map": weight_map})
        (folder / SINGLE_NAME).unlink(missing_ok=True)


def _split(
    all_slots: list[Slot], dtype: torch.dtype, max_shard_bytes: int | None, fp8_scales: torch.dtype | None
) -> list[list[Slot]]:
    shards: list[list[Slot]] = [[]]
    used = 0
    for slot in all_slots:
        size = stored_bytes(slot, dtype, fp8_scales)
        if shards[-1] and max_shard_bytes is not None and used + size > max_shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(slot)
        used += size
    return shards


def takes_fp8(slot: Slot, embedding: bool = False) -> bool:
    """Whether an FP8 checkpoint quantises this tensor: it quantises projections, but not embedding, head and router."""
    if slot.parameter == "embedding.weight":
        return embedding
    return len(slot.shape) == 2 and not slot.parameter.endswith(_NOT_FP8)


def stored_bytes(slot: Slot, dtype: torch.dtype, fp8_scales: torch.dtype | None = None) -> int:
    """Return the bytes of a tensor in a file of `save_model`, including the scales of an FP8 weight."""
    if fp8_scales is not None and takes_fp8(slot):
        return slot.num_elements + math.prod(grid(slot.shape)) * fp8_scales.itemsize
    return slot.num_elements * (torch.float32 if slot.is_expert_bias else dtype).itemsize


def _stored_form(
    slot: Slot, parameter: Tensor, dtype: torch.dtype, fp8_scales: torch.dtype | None
) -> dict[str, Tensor]:
    part = slot.part_of(parameter).detach().cpu()
    if fp8_scales is not None:
        weight, scale = quantise(part, fp8_scales)
        return {slot.published: weight, scale_name(slot.published): scale}
    return {slot.published: part.to(torch.float32 if slot.is_expert_bias else dtype).contiguous()}


def _config_json(config: ModelConfig, dtype: torch.dtype, fp8_scales: torch.dtype | None) -> dict[str, Any]:
    published = config.to_json() | {"torch_dtype": str(dtype).removeprefix("torch.")}
    if fp8_scales is None:
        return published
    powers_of_two = {} if fp8_scales == torch.float32 else {"scale_fmt": "ue8m0"}
    return published | {"quantization_config": QUANTIZATION | powers_of_two}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
