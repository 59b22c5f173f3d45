"""The parts of a model: embedding, blocks, attention, router, experts, and the cost of each.

Parts follow from the slots of a configuration (`names.py`): a part is the tensors of one kind, and layers with the same
tensors form one block. Nothing is read from the disk and nothing is allocated. `sizes.py` has the sizes of the whole
model, of files and of memory. `parts_v4.py` has the parts of DeepSeek-V4, which our network does not run.

Operations are multiply-adds of matrix products for one generated token, with the absorbed form of attention. Norms,
activations and other element-wise operations are not counted.

Source: DeepSeek-V3 report (arXiv 2412.19437), sections 2.1 and 2.2; DeepSeek-V2 report (arXiv 2405.04434), section 2.1
and appendix C; DeepSeek-V3.2-Exp report, section 2.

    >>> from model.network.config import ModelConfig
    >>> import json; from pathlib import Path
    >>> released = json.loads(Path("model/presets/configs/deepseek-v3.json").read_text())
    >>> for block in read_parts(ModelConfig.from_json(released)).blocks:
    ...     print(block.name, len(block.layers), [part.kind for part in block.parts])
    dense 3 ['attention_norm', 'attention', 'ffn_norm', 'ffn']
    moe 58 ['attention_norm', 'attention', 'ffn_norm', 'gate', 'experts', 'shared']
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Literal, Protocol

from model.checkpoint.names import Slot, mtp_slots, slots
from model.checkpoint.sizes import FORMS
from model.checkpoint.weights import stored_bytes
from model.network.config import ModelConfig


class Dimensions(Protocol):
    """The dimensions of a model that its parts do not state: layout of the router, and longest context."""

    @property
    def num_experts(self) -> int: ...
    @property
    def num_groups(self) -> int: ...
    @property
    def num_kept_groups(self) -> int: ...
    @property
    def top_k(self) -> int: ...
    @property
    def max_positions(self) -> int: ...


@dataclasses.dataclass(frozen=True, slots=True)
class PartTensor:
    """A published tensor; `{layer}` and `{expert}` in its name stand for every layer and expert."""

    name: str
    shape: tuple[int, ...]
    count: int  # tensors of this name in one layer: one, or one per expert; 0 if another part holds the tensor
    used: int  # tensors of this name with which one token is multiplied
    stored: Mapping[str, int]  # name of a dtype -> bytes of one tensor with its block scales
    # What a token does with the values; expert ids are looked up, and they are no parameters.
    use: Literal["multiplied", "added", "ids"] = "multiplied"

    @property
    def num_elements(self) -> int:
        """Number of parameters in one tensor."""
        return 0 if self.use == "ids" else math.prod(self.shape)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one token with all tensors of this name that it meets."""
        return self.used * self.num_elements if self.use == "multiplied" and len(self.shape) > 1 else 0


@dataclasses.dataclass(frozen=True, slots=True)
class Reads:
    """The cost of a part for each cache entry that it reads. An entry stands for one earlier token, or for several."""

    multiply_adds: int  # per entry
    values: int  # cached values per entry
    most: int | None = None  # largest number of entries that the part reads; None: no limit
    tokens: int = 1  # earlier tokens that one entry stands for
    is_window: bool = False  # whether the cache drops all but the latest `most` entries

    def entries(self, context: int) -> int:
        """Return how many entries the cache holds after `context` tokens; an incomplete block has no entry yet."""
        return self.keys(context) if self.is_window else context // self.tokens

    def keys(self, context: int) -> int:
        """Return how many entries the part reads after `context` earlier tokens."""
        return min(context // self.tokens, context if self.most is None else self.most)

    @property
    def values_per_token(self) -> Fraction:
        """Cached values that each further token adds; none in a window, where a new entry replaces an old one."""
        return Fraction(0 if self.is_window else self.values, self.tokens)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A part of the model. Numbers are per layer unless stated otherwise."""

    kind: str
    block: str  # name of its block; empty outside the blocks
    layers: tuple[int, ...]  # model layer numbers of the part; empty outside the blocks
    tensors: tuple[PartTensor, ...]
    reads: tuple[Reads, ...] = ()
    variant: str = ""  # which form of its kind the part has, such as the router's scoring function
    mixing: int = 0  # multiply-adds of one token between activations, without a weight

    @property
    def key(self) -> str:
        """The name of the part in a URL, unique in a model."""
        return f"{self.block}-{self.kind}" if self.block else self.kind

    @property
    def times(self) -> int:
        """Number of times that the part occurs in the model."""
        return max(1, len(self.layers))

    @property
    def parameters(self) -> int:
        """Parameters in one layer."""
        return sum(tensor.count * tensor.num_elements for tensor in self.tensors)

    @property
    def active(self) -> int:
        """Parameters in one layer that a token passes through; an embedding counts with all its rows."""
        return sum(min(tensor.used, tensor.count) * tensor.num_elements for tensor in self.tensors)

    @property
    def is_lookup(self) -> bool:
        """Whether a token reads one row of the part's tensor, without a product."""
        return self.kind == "embedding"

    @property
    def cache_values(self) -> int:
        """Values that one layer caches per token, rounded; a window of fixed length does not count."""
        return round(sum((read.values_per_token for read in self.reads), Fraction(0)))

    @property
    def text(self) -> str:
        """The name of the part's texts: its kind, with its variant if it has one."""
        return f"{self.kind}-{self.variant}" if self.variant else self.kind

    def multiply_adds(self, context: int = 0) -> int:
        """Return the multiply-adds of one layer for one token after `context` earlier tokens."""
        matrices = 0 if self.is_lookup else sum(tensor.multiply_adds for tensor in self.tensors)
        return self.mixing + matrices + sum(read.keys(context) * read.multiply_adds for read in self.reads)

    def cache_size(self, context: int) -> int:
        """Return the values that one layer's cache holds after `context` tokens."""
        return sum(read.entries(context) * read.values for read in self.reads)

    def cache_reads(self, context: int) -> int:
        """Return the cached values that one layer reads for one token after `context` earlier tokens."""
        return sum(read.keys(context) * read.values for read in self.reads)

    def weight_bytes(self, dtype: str) -> int:
        """Return the weight bytes that a layer reads per token, in one of `Parts.dtypes`; embeddings read one row."""
        read = sum(tensor.used * tensor.stored[dtype] for tensor in self.tensors)
        return read // self.tensors[0].shape[0] if self.is_lookup else read


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Layers with the same tensors."""

    name: str  # "dense" or "moe", in V4 the kind of attention; the second dense block is "dense2", and so on
    layers: tuple[int, ...]
    parts: tuple[Part, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """All parts of a model, in the order of a forward pass."""

    config: Dimensions
    before: tuple[Part, ...]
    blocks: tuple[Block, ...]
    after: tuple[Part, ...]
    mtp: Part | None  # the multi-token-prediction layer, which is not counted with the model

    @property
    def main(self) -> tuple[Part, ...]:
        """Every part except the multi-token-prediction layer."""
        return (*self.before, *(part for block in self.blocks for part in block.parts), *self.after)

    @property
    def all(self) -> tuple[Part, ...]:
        """Every part, the multi-token-prediction layer last."""
        return self.main if self.mtp is None else (*self.main, self.mtp)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Names of the dtypes that `Part.weight_bytes` accepts."""
        return tuple(self.before[0].tensors[0].stored)


def read_parts(config: ModelConfig) -> Parts:
    """Return the parts of the model that a configuration describes."""
    outside: dict[str, list[Slot]] = {}
    layers: dict[int, list[Slot]] = {}
    for slot in slots(config):
        if slot.layer is not None:
            layers.setdefault(slot.layer, []).append(slot)
        else:
            outside.setdefault(slot.kind, []).append(slot)
    parts = {kind: Part(kind, "", (), tuple(_tensors(config, held))) for kind, held in outside.items()}
    parts.setdefault("head", _shared_head(parts["embedding"]))
    mtp = _mtp(config) if config.has_mtp else None
    after = (parts["final_norm"], parts["head"])
    return Parts(config, (parts["embedding"],), tuple(_blocks(config, layers)), after, mtp)


def _shared_head(embedding: Part) -> Part:
    """Return a head that uses the embedding's tensor and holds no tensor of its own."""
    return Part("head", "", (), tuple(dataclasses.replace(tensor, count=0) for tensor in embedding.tensors))


def _blocks(config: ModelConfig, layers: Mapping[int, list[Slot]]) -> Iterator[Block]:
    """Yield one block per set of layers with the same names and shapes, in the order of their first layer."""
    alike: dict[tuple, list[int]] = {}
    for layer, held in layers.items():
        alike.setdefault(tuple((slot.pattern, slot.shape) for slot in held), []).append(layer)
    names: list[str] = []
    for numbers in alike.values():
        sort = "dense" if numbers[0] < config.num_dense_layers else "moe"
        taken = sum(name.startswith(sort) for name in names)
        names.append(f"{sort}{taken + 1}" if taken else sort)
        yield Block(names[-1], tuple(numbers), tuple(_block_parts(config, names[-1], numbers, layers[numbers[0]])))


def _block_parts(config: ModelConfig, block: str, layers: Iterable[int], held: Iterable[Slot]) -> Iterator[Part]:
    kinds: dict[str, list[Slot]] = {}
    for slot in held:
        kinds.setdefault(slot.kind, []).append(slot)
    for kind, own in kinds.items():
        variant = config.scoring if kind == "gate" else ""
        yield Part(kind, block, tuple(layers), tuple(_tensors(config, own)), _reads(config, kind), variant)


def _tensors(config: ModelConfig, held: Iterable[Slot]) -> Iterator[PartTensor]:
    """Yield one `PartTensor` per published name; the tensors of all experts of a layer share one `PartTensor`."""
    patterns: dict[str, list[Slot]] = {}
    for slot in held:
        patterns.setdefault(slot.pattern, []).append(slot)
    for name, same in patterns.items():
        used = config.top_k if same[0].expert is not None else len(same)
        stored = {form: stored_bytes(same[0], *how) for form, how in FORMS.items()}
        yield PartTensor(name, same[0].shape, len(same), used, stored)


def _reads(config: ModelConfig, kind: str) -> tuple[Reads, ...]:
    """Return the cost per earlier token: attention reads its latent, an indexer its index key, other parts nothing."""
    if kind == "attention":
        latent = config.kv_lora_rank + config.rope_head_dim  # scores use all values, mixed values only the latent
        each = config.num_heads * (latent + config.kv_lora_rank)
        return (Reads(each, latent, config.index_topk if config.is_sparse else None),)
    if kind == "indexer":
        return (Reads(config.index_heads * (config.index_head_dim + 1), config.index_head_dim),)
    return ()


def _mtp(config: ModelConfig) -> Part:
    """Return the multi-token-prediction layer as one part, without the copies of embedding and head in checkpoints."""
    held = list(mtp_slots(config))
    reads = [read for part in _block_parts(config, "", (), held) for read in part.reads]
    return Part("mtp", "", (config.num_layers,), tuple(_tensors(config, held)), tuple(reads))
