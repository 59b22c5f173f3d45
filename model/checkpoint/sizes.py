"""Sizes of a model in parameters and bytes, computed from its configuration alone.

The sizes are the parameters of each part, the bytes of the files, the bytes of the cache, and the bytes that weights
take in memory, for a loaded model and for a model that stays on the disk. Nothing is read and nothing is allocated.
`weights.py` inspects the contents of a folder.

Source: DeepSeek-V3 report (arXiv 2412.19437), sections 2.1 and 2.2; DeepSeek-V2 report (arXiv 2405.04434), table 1.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import torch

from model.checkpoint.names import Slot, mtp_slots, slots, used_slots
from model.checkpoint.weights import stored_bytes
from model.network.config import ModelConfig
from model.network.layout import wants_input_major
from model.trace.kv_cache import cache_bytes

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FP8 = "block FP8"
# Name -> dtype of stored tensors, and dtype of block scales (None: no scales).
FORMS = {name: (dtype, None) for name, dtype in DTYPES.items()} | {FP8: (torch.bfloat16, torch.float32)}

PARTS: tuple[str, ...] = (
    "embedding",
    "attention",
    "indexer",
    "dense feed-forward",
    "routers",
    "routed experts",
    "shared experts",
    "norms",
    "head",
)
# Kind of a tensor (`names.py`) -> the part that counts it; norms outside the indexer have a part of their own.
_PART_OF_KIND: dict[str, str] = {
    "embedding": "embedding",
    "attention": "attention",
    "indexer": "indexer",
    "ffn": "dense feed-forward",
    "gate": "routers",
    "experts": "routed experts",
    "shared": "shared experts",
    "head": "head",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A part of the model, summed over its layers."""

    name: str
    parameters: int
    active: int  # parameters that one token passes through


@dataclasses.dataclass(frozen=True, slots=True)
class Streamed:
    """Bytes of weights in memory if the weights stay on the disk and are read layer by layer."""

    layer: int  # the largest layer, without its routed experts
    one_token: int  # the largest layer, with the experts of one token
    all_experts: int  # the largest layer, with all its experts, as for a long prompt
    head: int  # final norm and output head, read after the layers


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSizes:
    """Sizes of a configuration. Keys of the mappings are names of dtypes; `files` and `mtp_files` also have `FP8`."""

    parts: tuple[Part, ...]  # in the order of a forward pass
    mtp_parameters: int  # parameters of a multi-token-prediction layer, which is not in `parts`
    files: Mapping[str, int]  # bytes of all weights in files, without a multi-token-prediction layer
    mtp_files: Mapping[str, int]  # bytes of a multi-token-prediction layer in files
    cache: Mapping[str, Mapping[str, int]]  # dtype -> form of attention -> cached bytes per token
    loaded: Mapping[str, int]  # bytes of all weights in memory
    streamed: Mapping[str, Streamed]

    @property
    def total(self) -> int:
        """Parameters of the model, including embedding, head and selection bias; tied matrices count once."""
        return sum(part.parameters for part in self.parts)

    @property
    def active(self) -> int:
        """Parameters that one token passes through: all but the routed experts that are not selected."""
        return sum(part.active for part in self.parts)


def model_sizes(config: ModelConfig) -> ModelSizes:
    """Return all sizes of a configuration."""
    all_slots, used = list(slots(config)), list(used_slots(config))
    mtp = list(mtp_slots(config))
    copies, published = 2 * config.vocab_size * config.hidden_size, config.to_json()
    return ModelSizes(
        parts=_parts(config, all_slots),
        mtp_parameters=sum(slot.num_elements for slot in mtp) + copies,
        files={name: _bytes(all_slots, *form) for name, form in FORMS.items()},
        mtp_files={name: _bytes(mtp, *form) + copies * form[0].itemsize for name, form in FORMS.items()},
        cache={name: cache_bytes(published, bytes_per_value=dtype.itemsize) for name, dtype in DTYPES.items()},
        loaded={name: _bytes(used, dtype) + _copied_head(config, dtype) for name, dtype in DTYPES.items()},
        streamed={name: _streamed(config, all_slots, dtype) for name, dtype in DTYPES.items()},
    )


def _parts(config: ModelConfig, all_slots: list[Slot]) -> tuple[Part, ...]:
    counts = dict.fromkeys(PARTS, 0)
    for slot in all_slots:
        counts[_part_of(slot)] += slot.num_elements
    active = counts | {"routed experts": counts["routed experts"] * config.top_k // max(1, config.num_experts)}
    return tuple(Part(name, count, active[name]) for name, count in counts.items() if count)


def _part_of(slot: Slot) -> str:
    is_norm = "norm." in slot.parameter and slot.kind != "indexer"
    return "norms" if is_norm else _PART_OF_KIND[slot.kind]


def _bytes(some: Iterable[Slot], dtype: torch.dtype, fp8_scales: torch.dtype | None = None) -> int:
    return sum(stored_bytes(slot, dtype, fp8_scales) for slot in some)


def _copied_head(config: ModelConfig, dtype: torch.dtype) -> int:
    """Return the bytes of the copy of a tied head (`model/network/layout.py`); 0 if it is not copied."""
    is_copied = config.tie_embeddings and wants_input_major(torch.device("cpu"), dtype)
    return config.vocab_size * config.hidden_size * dtype.itemsize if is_copied else 0


def _streamed(config: ModelConfig, all_slots: list[Slot], dtype: torch.dtype) -> Streamed:
    own, experts = [0] * config.num_layers, [0] * config.num_layers
    for slot in all_slots:
        if slot.parameter.startswith("blocks."):
            layer = int(slot.parameter.split(".")[1])
            (own if slot.expert is None else experts)[layer] += stored_bytes(slot, dtype)
    expert = max(experts) // max(1, config.num_experts)
    last = [slot for slot in all_slots if slot.parameter in ("norm.weight", "head.weight")]
    table = config.vocab_size * config.hidden_size * dtype.itemsize
    return Streamed(
        layer=max(own),
        one_token=max(o + (expert * config.top_k if e else 0) for o, e in zip(own, experts, strict=True)),
        all_experts=max(o + e for o, e in zip(own, experts, strict=True)),
        head=_bytes(last, dtype) + (table if config.tie_embeddings else 0),
    )
