"""What a model folder holds, from its configuration and headers, without reading a weight.

The model is built without data on the meta device, so that the numbers are those of the modules that a run would use.
What only a pass can show is not among the facts: the router's rule, and columns of the router beyond its experts.
"""

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from model.checkpoint.files import ModelFolder
from model.families.blocks import Block, Seam, structure_of
from model.families.folder import read_skeleton
from model.families.placement import size_of
from model.families.published import Published, read_published
from model.families.rule_notes import stated_rule
from model.families.sizes import CONTEXT, TOP_K, WINDOW, whole

_STREAMS = ("hc_mult", "hc_count")
_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclasses.dataclass(frozen=True, slots=True)
class Cache:
    """Values that the keys and values of a token take in a cache, summed over layers."""

    growing: int  # in layers that keep every token
    windowed: int  # in layers that keep the last `window` tokens
    window: int


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """The weights of a folder."""

    num_tensors: int
    num_files: int
    num_bytes: int
    dtypes: tuple[str, ...]  # as safetensors names them


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """Shape, sizes and what a run will record of a folder; None where it is not known without a pass."""

    model_type: str
    text_type: str  # of the language model, which differs in a multimodal model
    model_class: str
    num_layers: int
    blocks: tuple[str, ...]  # paths of the routing blocks
    block_layers: tuple[int, ...]  # their layers
    num_experts: int  # of each block; blocks that differ are refused
    num_idle: int  # choices of a block that compute nothing, as far as the experts' module shows them
    num_streams: int  # residual streams, as the configuration states them
    top_k: int | None
    groups: tuple[int, int] | None  # number of groups, and how many a token keeps; None: no groups
    stated_rule: tuple[str, ...]  # keys of the configuration that state the router's rule; a run finds what it follows
    width: int | None
    num_heads: int | None  # None: they differ by layer, or the configuration does not state them
    num_kv_heads: int | None
    vocab_size: int | None
    context: int | None
    attention: tuple[str, ...] | None  # kind of each layer
    attention_layers: tuple[int, ...]  # layers whose attention weights a run can record
    parameters: int
    active_parameters: int | None  # that one token of text passes through
    num_bytes: int  # of all weights in memory, as published
    dtype: str
    quant_method: str | None
    cache: Cache | None
    stored: Stored | None  # None: the folder holds only a configuration
    notes: tuple[str, ...]

    @property
    def recorded(self) -> str:
        """What a run can record, as a list in words."""
        layers, every = len(self.attention_layers), len(self.attention_layers) == self.num_layers
        attention = [f"attention of {'all layers' if every else layers_text(layers)}"] if layers else []
        return ", ".join(["router", *attention, *(["inputs"] if self.num_streams == 1 else []), "logits"])

    @property
    def unrecorded(self) -> tuple[str, ...]:
        """What a run does not record, each with its reason."""
        without, reasons = set(range(self.num_layers)) - set(self.attention_layers), []
        if without:
            kinds = {self.attention[layer] for layer in without} if self.attention else {"kind not stated"}
            reasons.append(f"attention of {layers_text(len(without))} ({', '.join(sorted(kinds))}): it has no weights")
        if self.num_streams > 1:
            reasons.append(f"inputs: the model has {self.num_streams} residual streams, so a layer has no single input")
        return (*reasons, "indexer and drafts: only the own network records them")


def layers_text(count: int) -> str:
    """Return a number of layers in words.

    >>> layers_text(1), layers_text(1_000)
    ('1 layer', '1,000 layers')
    """
    return f"{count:,} layer{'' if count == 1 else 's'}"


def facts_of(folder: Path, most_seconds: float | None = None) -> Facts:
    """Return the facts of a folder that transformers can run; in seconds, whatever the size of the model.

    Args:
        folder: a folder in the Hugging Face layout; it may hold only a configuration.
        most_seconds: longest wait for another model that is being loaded; None: without limit.

    Raises:
        CheckpointError: the folder cannot be opened, its tensors are not those of the model, or the wait took too
            long; one line says why.
    """
    with ModelFolder(folder, needs_weights=False) as files:
        published = read_published(files)
        model, notes = read_skeleton(files, published, most_seconds=most_seconds)
        seam = structure_of(model)
        blocks = [block for block in seam.blocks.values() if not block.rests]
        text = model.config.get_text_config()
        top_k = _top_k(blocks[0], text)
        return Facts(
            **_identity(published, text, model, seam, blocks),
            top_k=top_k,
            groups=_groups(text),
            stated_rule=stated_rule(text.to_dict()),
            attention=_attention(text, len(seam.layers)),
            parameters=sum(weight.numel() for weight in model.parameters()),
            active_parameters=None if top_k is None else _active(model, seam, blocks, top_k),
            num_bytes=size_of(model),
            dtype=str(published.dtype).removeprefix("torch."),
            quant_method=published.quant_method,
            cache=_cache(model, seam, _attention(text, len(seam.layers)), text),
            stored=_stored(files) if files.has_weights else None,
            notes=(*published.notes, *notes),
        )


def _identity(
    published: Published, text: PretrainedConfig, model: PreTrainedModel, seam: Seam, blocks: list[Block]
) -> dict[str, Any]:
    heads = whole(text, "num_attention_heads", "n_heads")
    return {
        "model_type": published.config["model_type"],
        "text_type": text.model_type,
        "model_class": type(model).__name__,
        "num_layers": len(seam.layers),
        "blocks": tuple(block.path for block in blocks),
        "block_layers": tuple(block.layer for block in blocks),
        "num_experts": blocks[0].num_computing,
        "num_idle": blocks[0].slots - blocks[0].num_computing,
        "num_streams": whole(text, *_STREAMS) or 1,
        "width": whole(text, "hidden_size", "d_model"),
        "num_heads": heads,
        "num_kv_heads": whole(text, "num_key_value_heads") or heads,
        "vocab_size": whole(text, "vocab_size"),
        "context": whole(text, *CONTEXT),
        "attention_layers": tuple(sorted(set(seam.attention.values()))),
    }


def _top_k(block: Block, text: PretrainedConfig) -> int | None:
    """Return the number of selected experts, which the router or the configuration states under one of several names.

    None if neither does.
    """
    holders = (text, getattr(text, "ffn_config", None))
    return block.stated_top_k or next((value for holder in holders if (value := whole(holder, *TOP_K))), None)


def _groups(text: PretrainedConfig) -> tuple[int, int] | None:
    number, kept = whole(text, "n_group", "num_expert_group"), whole(text, "topk_group", "num_limited_groups")
    return (number, kept) if number is not None and kept is not None and number > 1 else None


def _attention(text: PretrainedConfig, num_layers: int) -> tuple[str, ...] | None:
    """Return the kind of each layer as the configuration states it; None if it states another number of layers."""
    kinds = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None)
    if kinds is None:
        window = whole(text, *WINDOW) if getattr(text, "use_sliding_window", True) else None
        kinds = [_FULL if window is None else _SLIDING] * num_layers
    return tuple(map(str, kinds)) if len(kinds) == num_layers else None


def _active(model: PreTrainedModel, seam: Seam, blocks: list[Block], top_k: int) -> int:
    """Return the parameters that a token of text passes through, embedding and head counted."""
    language = model.get_submodule(seam.layers[0].rpartition(".")[0].rpartition(".")[0])
    parts = [language, model.get_input_embeddings(), model.get_output_embeddings()]
    weights = {id(weight): weight.numel() for part in parts if part is not None for weight in part.parameters()}
    resting = [block for block in seam.blocks.values() if block.rests]
    for block in [*blocks, *resting]:
        share = 0 if block in resting else top_k
        for weight in (weight for experts in block.experts for weight in experts.parameters()):
            weights[id(weight)] = weights[id(weight)] * share // block.num_computing
    return sum(weights.values())


def _cache(model: PreTrainedModel, seam: Seam, kinds: tuple[str, ...] | None, text: PretrainedConfig) -> Cache | None:
    """Return the values of a token in the cache, from the widths of the projections to keys and values.

    None if a layer with attention keeps something else, such as compressed tokens or an indexer's keys.
    """
    growing = windowed = 0
    for path, layer in seam.attention.items():
        kept = _kept(model.get_submodule(path))
        if kept is None or kinds is None or kinds[layer] not in (_FULL, _SLIDING):
            return None
        growing += kept if kinds[layer] == _FULL else 0
        windowed += kept if kinds[layer] == _SLIDING else 0
    return Cache(growing, windowed, whole(text, *WINDOW) or 0)


def _kept(attention: nn.Module) -> int | None:
    """Return the values that an attention module keeps of a token: keys and values, or the latent of MLA."""
    parts: dict[str, Any] = dict(attention.named_children())
    for names in (("kv_a_proj_with_mqa",), ("k_proj", "v_proj")):
        if all(isinstance(parts.get(name), nn.Linear) for name in names):
            return sum(parts[name].out_features for name in names)
    return None


def _stored(files: ModelFolder) -> Stored:
    tensors = files.tensors.values()
    return Stored(
        num_tensors=len(tensors),
        num_files=len({tensor.file for tensor in tensors}),
        num_bytes=sum(tensor.num_bytes for tensor in tensors),
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors})),
    )
