"""The parts of DeepSeek-V4, from its published configuration; see `parts.py` for what a part is.

Our network does not run V4, so its tensors have no slots in `names.py`. Names and shapes are those of the released
files; a test compares them with transformers' model. Layers with the same kinds of attention and router form one block.

Axes in shapes: an output axis first, as in the files. `{layer}` and `{expert}` stand for their numbers.

Source: DeepSeek-V4 report (arXiv 2606.19348), sections 2.1 to 2.3 and 4.2.1; tensor names and dtypes of the released
files of DeepSeek-V4-Flash and DeepSeek-V4-Pro.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from model.checkpoint.parts import Block, Part, Parts, PartTensor, Reads
from model.checkpoint.sizes import FP8

FP4 = "FP4 experts, block FP8"  # the form of the released V4 files: 4-bit routed experts, the other matrices in 8 bits
FORMS = ("float32", "bfloat16", FP8, FP4)
WINDOW, SPARSE, HEAVY = "window", "csa", "hca"  # kinds of attention; also the names of blocks
_TYPES = {"sliding_attention": WINDOW, "compressed_sparse_attention": SPARSE, "heavily_compressed_attention": HEAVY}
_RATES = {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}  # if a configuration states none
_FP8_BLOCK, _FP4_BLOCK = 128, 32  # values on a side of a block, and in a row, that share one scale of one byte

Form = Literal["fp8", "fp4", "bf16", "fp32", "ids"]  # how the released files store a tensor


@dataclasses.dataclass(frozen=True, slots=True)
class V4Config:
    """The dimensions of a DeepSeek-V4 model. `num_groups` and `num_kept_groups` are 1: V4 has no group limit.

    Attributes:
        attention: kind of attention of each layer.
        tokens_per_entry: kind of attention -> earlier tokens that one compressed entry stands for.
        num_streams: number of residual streams.
        num_hash_layers: number of first layers whose experts follow from the token id.
    """

    vocab_size: int
    hidden_size: int
    attention: tuple[str, ...]
    tokens_per_entry: Mapping[str, int]
    num_heads: int
    head_dim: int
    q_lora_rank: int
    window: int
    index_heads: int
    index_head_dim: int
    index_topk: int
    output_groups: int
    output_rank: int
    num_hash_layers: int
    num_experts: int
    num_shared_experts: int
    top_k: int
    expert_width: int
    num_streams: int
    max_positions: int
    has_mtp: bool
    num_groups: int = 1
    num_kept_groups: int = 1

    @property
    def num_layers(self) -> int:
        """Number of layers without the multi-token-prediction layer."""
        return len(self.attention)

    @classmethod
    def from_json(cls, published: Mapping[str, Any]) -> "V4Config":
        """Return the dimensions that a config.json states, in the released spelling or in transformers'.

        Raises:
            ValueError: a key is missing, or a layer's compression is unknown.
        """
        try:
            rates = {_TYPES[name]: int(rate) for name, rate in (published.get("compress_rates") or _RATES).items()}
            counts = {field: int(published[key]) for field, key in _KEYS.items()}
            attention, num_hash = _attention_of(published, rates), _hash_layers(published)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"this configuration of a DeepSeek-V4 model lacks or misstates {error}") from error
        for name, number in {**counts, **rates}.items():
            if number < 1:
                raise ValueError(
                    f"this configuration of a DeepSeek-V4 model states {_KEYS.get(name, name)} as {number}"
                )
        has_mtp = bool(published.get("num_nextn_predict_layers"))
        return cls(attention=attention, tokens_per_entry=rates, num_hash_layers=num_hash, has_mtp=has_mtp, **counts)


_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "head_dim": "head_dim",
    "q_lora_rank": "q_lora_rank",
    "window": "sliding_window",
    "index_heads": "index_n_heads",
    "index_head_dim": "index_head_dim",
    "index_topk": "index_topk",
    "output_groups": "o_groups",
    "output_rank": "o_lora_rank",
    "num_experts": "n_routed_experts",
    "num_shared_experts": "n_shared_experts",
    "top_k": "num_experts_per_tok",
    "expert_width": "moe_intermediate_size",
    "num_streams": "hc_mult",
    "max_positions": "max_position_embeddings",
}


def _attention_of(published: Mapping[str, Any], rates: Mapping[str, int]) -> tuple[str, ...]:
    """Return the kind of attention of each layer; the released list has one more for multi-token prediction."""
    if "layer_types" in published:
        kinds = [_TYPES[name] for name in published["layer_types"]]
    else:
        by_rate = {0: WINDOW} | {rate: kind for kind, rate in rates.items()}
        kinds = [by_rate[rate] for rate in published["compress_ratios"]]
    return tuple(kinds[: int(published["num_hidden_layers"])])


def _hash_layers(published: Mapping[str, Any]) -> int:
    types = published.get("mlp_layer_types")
    return int(published["num_hash_layers"]) if types is None else list(types).count("hash_moe")


def v4_parts(config: V4Config) -> Parts:
    """Return the parts of the model that a configuration describes."""
    hidden, streams = config.hidden_size, config.num_streams
    table = (config.vocab_size, hidden)
    embedding = Part("embedding", "", (), (_tensor("embed.weight", table, "bf16"),), variant="streams")
    join = Part("final_mix", "", (), tuple(_mix("hc_head", streams, hidden, 1)), mixing=streams * hidden)
    norm = Part("final_norm", "", (), (_tensor("norm.weight", (hidden,), "bf16"),))
    head = Part("head", "", (), (_tensor("head.weight", table, "bf16"),))
    mtp = _mtp(config) if config.has_mtp else None
    return Parts(config, (embedding,), tuple(_blocks(config)), (join, norm, head), mtp)


def _blocks(config: V4Config) -> Iterator[Block]:
    """Yield one block per kind of attention and router, in the order of their first layer."""
    alike: dict[tuple[str, bool], list[int]] = {}
    for layer, kind in enumerate(config.attention):
        alike.setdefault((kind, layer < config.num_hash_layers), []).append(layer)
    for (kind, is_hash), layers in alike.items():
        name = f"{kind}_hash" if is_hash else kind
        yield Block(name, tuple(layers), tuple(_layer_parts(config, name, tuple(layers), kind, is_hash)))


def _layer_parts(
    config: V4Config, block: str, layers: tuple[int, ...], attention: str, is_hash: bool, prefix: str = "layers.{layer}"
) -> Iterator[Part]:
    hidden, streams = config.hidden_size, config.num_streams
    mixes, mixing = (2 + streams) * streams, (2 + streams) * streams * hidden
    for kind in ("attn", "ffn"):
        part = {"attn": "attention", "ffn": "ffn"}[kind]
        weights = tuple(_mix(f"{prefix}.hc_{kind}", streams, hidden, 3, mixes))
        yield Part(f"{part}_mix", block, layers, weights, mixing=mixing)
        norm = _tensor(f"{prefix}.{kind}_norm.weight", (hidden,), "bf16")
        yield Part(f"{part}_norm", block, layers, (norm,), variant="streams")
        if kind == "attn":
            yield from _attention_parts(config, block, layers, attention, f"{prefix}.attn")
        else:
            yield from _moe_parts(config, block, layers, is_hash, f"{prefix}.ffn")


def _mix(name: str, streams: int, hidden: int, scales: int, mixes: int | None = None) -> Iterator[PartTensor]:
    """Yield the tensors of a hyper-connection, or, without `mixes`, of the join of all streams after the last layer."""
    rows = streams if mixes is None else mixes
    yield _tensor(f"{name}_fn", (rows, streams * hidden), "fp32")
    yield _tensor(f"{name}_base", (rows,), "fp32")
    yield _tensor(f"{name}_scale", (scales,), "fp32")


def _attention_parts(config: V4Config, block: str, layers: tuple[int, ...], kind: str, prefix: str) -> Iterator[Part]:
    hidden, width = config.hidden_size, config.num_heads * config.head_dim
    group, ranks = width // config.output_groups, config.output_groups * config.output_rank
    matrices = {"wq_a": (config.q_lora_rank, hidden), "wq_b": (width, config.q_lora_rank)}
    matrices |= {"wkv": (config.head_dim, hidden), "wo_a": (ranks, group), "wo_b": (hidden, ranks)}
    tensors = [_tensor(f"{prefix}.{name}.weight", shape, "fp8") for name, shape in matrices.items()]
    norms = {"q_norm": config.q_lora_rank, "kv_norm": config.head_dim}
    tensors += [_tensor(f"{prefix}.{name}.weight", (size,), "bf16") for name, size in norms.items()]
    tensors.append(_tensor(f"{prefix}.attn_sink", (config.num_heads,), "fp32"))
    each = 2 * width  # of one query with one entry: scores with it as key, and its weight times it as value
    reads = [Reads(each, config.head_dim, config.window, is_window=True)]
    if kind != WINDOW:
        tokens, most = config.tokens_per_entry[kind], config.index_topk if kind == SPARSE else None
        reads.append(Reads(each, config.head_dim, most, tokens))
        tensors += _compressor(f"{prefix}.compressor", hidden, config.head_dim, tokens, overlaps=kind == SPARSE)
    if kind == SPARSE:
        yield _indexer(config, block, layers, prefix)
    yield Part("attention", block, layers, tuple(tensors), tuple(reads), kind)


def _indexer(config: V4Config, block: str, layers: tuple[int, ...], prefix: str) -> Part:
    heads, size, tokens = config.index_heads, config.index_head_dim, config.tokens_per_entry[SPARSE]
    tensors = [_tensor(f"{prefix}.indexer.wq_b.weight", (heads * size, config.q_lora_rank), "fp8")]
    tensors.append(_tensor(f"{prefix}.indexer.weights_proj.weight", (heads, config.hidden_size), "bf16"))
    tensors += _compressor(f"{prefix}.indexer.compressor", config.hidden_size, size, tokens, overlaps=True)
    return Part("indexer", block, layers, tuple(tensors), (Reads(heads * (size + 1), size, None, tokens),), "blocks")


def _compressor(name: str, hidden: int, size: int, tokens: int, overlaps: bool) -> Iterator[PartTensor]:
    """Yield the tensors that pool `tokens` tokens into one entry; overlapping blocks have two series of values."""
    width = 2 * size if overlaps else size
    yield _tensor(f"{name}.wkv.weight", (width, hidden), "bf16")
    yield _tensor(f"{name}.wgate.weight", (width, hidden), "bf16")
    yield _tensor(f"{name}.ape", (tokens, width), "fp32", use="added")
    yield _tensor(f"{name}.norm.weight", (size,), "bf16")


def _moe_parts(config: V4Config, block: str, layers: tuple[int, ...], is_hash: bool, prefix: str) -> Iterator[Part]:
    hidden, experts, width = config.hidden_size, config.num_experts, config.expert_width
    router = [_tensor(f"{prefix}.gate.weight", (experts, hidden), "bf16")]
    router.append(
        _tensor(f"{prefix}.gate.tid2eid", (config.vocab_size, config.top_k), "ids", used=0, use="ids")
        if is_hash
        else _tensor(f"{prefix}.gate.bias", (experts,), "fp32")
    )
    yield Part("gate", block, layers, tuple(router), variant="hash" if is_hash else "sqrtsoftplus")
    shapes = {"w1": (width, hidden), "w3": (width, hidden), "w2": (hidden, width)}
    routed = [
        _tensor(f"{prefix}.experts.{{expert}}.{name}.weight", shape, "fp4", experts, config.top_k)
        for name, shape in shapes.items()
    ]
    yield Part("experts", block, layers, tuple(routed), variant="clamped")
    shared = config.num_shared_experts * width
    shapes = {"w1": (shared, hidden), "w3": (shared, hidden), "w2": (hidden, shared)}
    always = [_tensor(f"{prefix}.shared_experts.{name}.weight", shape, "fp8") for name, shape in shapes.items()]
    yield Part("shared", block, layers, tuple(always), variant="v4")


def _mtp(config: V4Config) -> Part:
    """Return the multi-token-prediction layer as one part; its attention has a window only."""
    prefix, hidden = "mtp.0", config.hidden_size
    tensors = [_tensor(f"{prefix}.{name}.weight", (hidden, hidden), "fp8") for name in ("e_proj", "h_proj")]
    tensors += [_tensor(f"{prefix}.{name}.weight", (hidden,), "bf16") for name in ("enorm", "hnorm", "norm")]
    tensors += _mix(f"{prefix}.hc_head", config.num_streams, hidden, 1)
    inner = list(_layer_parts(config, "", (), WINDOW, is_hash=False, prefix=prefix))
    tensors += [tensor for part in inner for tensor in part.tensors]
    reads = tuple(read for part in inner for read in part.reads)
    mixing = sum(part.mixing for part in inner) + config.num_streams * hidden
    return Part("mtp", "", (config.num_layers,), tuple(tensors), reads, "v4", mixing)


def _tensor(
    name: str, shape: tuple[int, ...], form: Form, count: int = 1, used: int = 1,
    use: Literal["multiplied", "added", "ids"] = "multiplied",
) -> PartTensor:  # fmt: skip
    stored = {target: _stored_bytes(shape, form, target) for target in FORMS}
    return PartTensor(name, shape, count, min(used, count), stored, use)


def _stored_bytes(shape: tuple[int, ...], form: Form, target: str) -> int:
    """Return the bytes of a tensor in one of `FORMS`; the released files keep some tensors in fp32 or bfloat16."""
    size = math.prod(shape)
    if form == "ids":
        return 8 * size
    if target == "float32" or form == "fp32":
        return 4 * size
    if target == "bfloat16" or form == "bf16":
        return 2 * size
    if target == FP4 and form == "fp4":
        return size // 2 + size // _FP4_BLOCK
    return size + math.prod(-(-side // _FP8_BLOCK) for side in shape)
