"""The place of each stored tensor in a model of any family: its layer, its expert, and whether it belongs to a router.

transformers names the module that each stored tensor fills; the blocks of experts among the modules are found by
structure. No weights are read.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from model.checkpoint.files import ModelFolder
from model.checkpoint.header import CheckpointError, StoredTensor, first_line
from model.checkpoint.names import BIAS_KIND, EXPERT_KIND, ROUTER_KIND, Place
from model.families.blocks import Block, Seam, structure_of
from model.families.published import Published

_AFTER_NUMBER = re.compile(r"(?:^|.*?\.)\d+\.(.+)")
_EXPERT = re.compile(r"(?:.*\.)?experts\.(\d{1,9})\.(.+)")


def structure(published: Published) -> PreTrainedModel:
    """Return the model that a configuration describes, without data, on the meta device.

    Raises:
        CheckpointError: transformers cannot build it.
    """
    try:
        with torch.device("meta"):
            return published.model_class(copy.deepcopy(published.settings))
    except Exception as error:  # the classes raise errors of many kinds
        model_type = published.config["model_type"]
        raise CheckpointError(
            f"config.json: transformers cannot build this {model_type!r}: {first_line(error)}"
        ) from None


def places_of(files: ModelFolder, model: PreTrainedModel) -> dict[str, Place]:
    """Return published name -> place, for every tensor of a folder.

    A selection bias is a vector of a block, with one value per choice, that is called a bias and is not the bias of a
    linear layer. A router's rows are the smallest matrix of a block with one row per choice.

    Args:
        files: the opened folder.
        model: the model of its configuration; it may be on the meta device.
    """
    seam, targets = structure_of(model), _targets(files, model)
    paths = {module: path for path, module in model.named_modules()}
    places = {name: _place(name, target, seam) for name, target in targets.items()}
    for block in seam.blocks.values():
        inside = {name: target for name, target in targets.items() if target.startswith(f"{block.path}.")}
        of_experts = tuple(f"{paths[module]}." for module in block.experts)
        routed = [name for name, target in inside.items() if target.startswith(of_experts)]
        places |= {name: _expert(places[name], files.tensors[name], block.num_computing) for name in routed}
        beside = {name: target for name, target in inside.items() if name not in routed}
        for name, kind in _of_router(block, beside, files.tensors):
            place = places[name]
            places[name] = Place(place.layer, None, place.part, kind)
    return places


def _targets(files: ModelFolder, model: PreTrainedModel) -> dict[str, str]:
    """Return published name -> path of the parameter that the tensor fills."""
    changes, parameters = get_model_conversion_mapping(model), model.state_dict()
    renamings = [change for change in changes if isinstance(change, WeightRenaming)]
    converters = [change for change in changes if isinstance(change, WeightConverter)]
    return {
        name: rename_source_key(name, renamings, converters, model.base_model_prefix, parameters)[0]
        for name in files.tensors
    }


def _place(name: str, target: str, seam: Seam) -> Place:
    """Return layer and part; the part is the published name after the layer's number."""
    for layer, path in enumerate(seam.layers):
        if target.startswith(f"{path}."):
            after = _AFTER_NUMBER.fullmatch(name)
            return Place(layer, None, after[1] if after else name)
    return Place(None, None, name)


def _expert(place: Place, stored: StoredTensor, num_experts: int) -> Place:
    """Return the place of a tensor of one expert, or of all experts of a block."""
    numbered = _EXPERT.fullmatch(place.part)
    if numbered:
        kind = EXPERT_KIND if len(stored.shape) == 2 else ""
        return Place(place.layer, int(numbered[1]), numbered[2], kind)
    if not stored.shape or not num_experts or stored.shape[0] % num_experts:
        return place
    is_matrix = len(stored.shape) in (3, 4) or len(stored.shape) == 2 and stored.shape[0] > num_experts
    return Place(place.layer, None, place.part, EXPERT_KIND if is_matrix else "", num_experts)


def _of_router(
    block: Block, beside: Mapping[str, str], tensors: Mapping[str, StoredTensor]
) -> Iterator[tuple[str, str]]:
    """Yield names and kinds of the tensors that hold a block's router rows and its selection bias."""
    sizes = {block.num_computing, block.slots}
    matrices = {name: target for name, target in beside.items() if len(tensors[name].shape) == 2}
    rows = [name for name in matrices if tensors[name].shape[0] in sizes and tensors[name].shape[1] > 1]
    rows = [name for name in rows if "bias" not in matrices[name].rpartition(".")[2]]
    if not rows:  # Zaya has one more choice than experts, Inkling a row for each shared expert
        more = [name for name in matrices if block.slots < tensors[name].shape[0] <= 2 * block.slots]
        rows = sorted(more, key=lambda name: tensors[name].shape[0])[:1]
    if rows:
        router = min(rows, key=lambda name: _size_of_child(block, matrices[name]))
        sizes.add(tensors[router].shape[0])
        yield router, ROUTER_KIND
    for name, target in beside.items():
        leaf, shape = target.rpartition(".")[2], tensors[name].shape
        is_row = len(shape) == 1 or len(shape) == 2 and shape[0] == 1
        if is_row and shape[-1] in sizes and "bias" in leaf and leaf != "bias":
            yield name, BIAS_KIND


def _size_of_child(block: Block, target: str) -> int:
    """Return the number of parameters of the block's child that holds a parameter; shared experts are larger."""
    child: Any = getattr(block.module, target.removeprefix(f"{block.path}.").split(".")[0])
    return sum(weight.numel() for weight in child.parameters()) if isinstance(child, nn.Module) else 0
