"""Faults planted in the files of a tiny checkpoint, each with the first link that shows it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.model.doctor.checkpoints import BIAS, GATE, Tensors, configure, expert, plant

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
Plant = Callable[[Path], object]


def of(layer: int, part: str) -> str:
    """The published name of a layer's matrix or norm."""
    return f"model.layers.{layer}.{part}.weight"


def noise(tensors: Tensors, name: str, size: float = 1.0) -> None:
    drawn = torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(9))
    tensors[name] += size * tensors[name].std() * drawn


def swap(tensors: Tensors, one: str, other: str) -> None:
    tensors[one], tensors[other] = tensors[other], tensors[one]


def swap_rows(tensor: torch.Tensor, one: int, other: int) -> None:
    tensor[[one, other]] = tensor[[other, one]]


def halves(tensors: Tensors, experts: range) -> None:
    for number in experts:
        swap(tensors, expert(2, number, "gate_proj"), expert(2, number, "up_proj"))


def reorder(tensors: Tensors, layer: int, order: Mapping[int, int]) -> None:
    """Give experts the weights of others."""
    old = {(e, part): tensors[expert(layer, e, part)] for e in order for part in PROJECTIONS}
    for to, source in order.items():
        for part in PROJECTIONS:
            tensors[expert(layer, to, part)] = old[source, part].clone()


def renumber(tensors: Tensors, layer: int, order: list[int]) -> None:
    """Renumber experts, and move router rows and biases along."""
    for name in ("weight", "e_score_correction_bias"):
        gate = f"model.layers.{layer}.mlp.gate.{name}"
        tensors[gate] = tensors[gate][order].contiguous()
    reorder(tensors, layer, dict(enumerate(order)))


def copy_layer(tensors: Tensors, source: int, target: int) -> None:
    for name in [name for name in tensors if f"model.layers.{source}." in name]:
        tensors[name.replace(f"layers.{source}.", f"layers.{target}.")] = tensors[name].clone()


def swap_layers(tensors: Tensors, one: int, other: int) -> None:
    for name in [name for name in tensors if name.startswith(f"model.layers.{one}.")]:
        swap(tensors, name, name.replace(f"layers.{one}.", f"layers.{other}."))


def roll(tensors: Tensors, name: str, by: int, dim: int) -> None:
    tensors[name] = torch.roll(tensors[name], by, dim).contiguous()


def rotary_halves(tensors: Tensors) -> None:
    """Store the rotary part of the keys in halves where pairs are interleaved."""
    name = of(2, "self_attn.kv_a_proj_with_mqa")
    latent, rows = 16, tensors[name].shape[0]
    order = [*range(latent), *range(latent, rows, 2), *range(latent + 1, rows, 2)]
    tensors[name] = tensors[name][order].contiguous()


def rounded(tensors: Tensors, dtype: torch.dtype) -> None:
    """Round every tensor but the biases, which published checkpoints keep in fp32."""
    tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items() if "correction" not in name})


def tokenizer(change: Callable[[dict[str, Any]], None]) -> Plant:
    def rewrite(folder: Path) -> None:
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return rewrite


def permute_ids(content: dict[str, Any]) -> None:
    special = {entry["content"] for entry in content["added_tokens"]}
    vocabulary = content["model"]["vocab"]
    names = [name for name in vocabulary if name not in special]
    ids = [vocabulary[name] for name in names]
    vocabulary.update(zip(names, ids[7:] + ids[:7], strict=True))


def drop_last_ids(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    last = {name for name, token_id in vocabulary.items() if token_id >= len(vocabulary) - 20}
    content["model"]["vocab"] = {name: token_id for name, token_id in vocabulary.items() if name not in last}
    content["model"]["merges"] = [pair for pair in content["model"]["merges"] if "".join(pair) not in last]


def swap_first_tokens(content: dict[str, Any]) -> None:
    first, second = content["added_tokens"][:2]
    vocabulary = content["model"]["vocab"]
    swap(vocabulary, first["content"], second["content"])
    first["content"], second["content"] = second["content"], first["content"]


def tensors(change: Callable[[Tensors], object]) -> Plant:
    return lambda folder: plant(folder, change)


def config(**changes: Any) -> Plant:
    return lambda folder: configure(folder, **changes)


YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1}

# Fault -> how it is planted, the place that is named, words of the finding.
FAULTS: dict[str, tuple[Plant, str, str]] = {
    "tokenizer permuted": (tokenizer(permute_ids), "", "tokens have another text"),
    "tokenizer of another size": (tokenizer(drop_last_ids), "", "tokens have another text"),
    "another first token in the tokenizer": (tokenizer(swap_first_tokens), "", "tokens have another text: id 0"),
    "another bos_token_id": (config(bos_token_id=3), "", "bos_token_id 3, the reference was run with 0"),
    "topk_group": (config(topk_group=1), "", "topk_group 1, the reference was run with 2"),
    "n_group": (config(n_group=8), "", "n_group 8, the reference was run with 4"),
    "num_experts_per_tok": (config(num_experts_per_tok=3), "", "num_experts_per_tok 3, the reference was run with 4"),
    "routed_scaling_factor": (config(routed_scaling_factor=1.0), "", "scaling factor 1 in place of 2.5"),
    "norm_topk_prob": (config(norm_topk_prob=False), "", "norm_topk_prob False"),
    "rope_theta": (config(rope_theta=5e5), "", "rope_theta 500000.0"),
    "rms_norm_eps": (config(rms_norm_eps=1e-2), "", "rms_norm_eps 0.01"),
    "rope_scaling": (config(rope_scaling=YARN), "", "rope_scaling"),
    "embedding noise": (tensors(lambda t: noise(t, EMBEDDING, 0.3)), "L0", "the embedding gives other vectors"),
    "embedding permuted": (tensors(lambda t: roll(t, EMBEDDING, 5, 0)), "L0", "the embedding gives other vectors"),
    "embedding scaled": (tensors(lambda t: t[EMBEDDING].mul_(7)), "L0", "the embedding is 7 times"),
    "queries": (tensors(lambda t: noise(t, of(2, "self_attn.q_a_proj"))), "L2", "attention weighs other tokens"),
    "heads of the queries": (tensors(lambda t: roll(t, of(3, "self_attn.q_b_proj"), 20, 0)), "L3", "attention weighs"),
    "keys and values": (tensors(lambda t: noise(t, of(3, "self_attn.kv_b_proj"))), "L3", "attention computes"),
    "attention output": (tensors(lambda t: t[of(2, "self_attn.o_proj")].mul_(1.5)), "L2", "attention computes"),
    "heads of the output": (tensors(lambda t: roll(t, of(4, "self_attn.o_proj"), 10, 1)), "L4", "attention computes"),
    "rotary halves": (tensors(rotary_halves), "L2", "attention weighs other tokens"),
    "norm before attention": (tensors(lambda t: t[of(3, "input_layernorm")].fill_(1)), "L3", "attention computes"),
    "attention of a dense layer": (tensors(lambda t: noise(t, of(0, "self_attn.q_b_proj"))), "L0", "attention weighs"),
    "dense block": (tensors(lambda t: t[of(0, "mlp.down_proj")].mul_(1.5)), "L0", "the feed-forward block computes"),
    "norm before the router": (
        tensors(lambda t: t[of(2, "post_attention_layernorm")].mul_(1.3)), "L2", "16 of 16 affinities differ"),
    "router row": (tensors(lambda t: t[of(2, "mlp.gate")][5].mul_(1.4)), "L2E5", "1 router row gives other"),
    "router rows swapped": (tensors(lambda t: swap_rows(t[GATE], 1, 2)), "L3E1", "2 router rows are permuted"),
    "bias shifted": (tensors(lambda t: t[BIAS][4].add_(0.05)), "L3E4", "1 bias differs from the reference's"),
    "bias of another layer": (
        tensors(lambda t: t[BIAS].copy_(t[BIAS.replace("layers.3", "layers.2")])), "L3", "carries the bias of L2"),
    "bias dropped": (tensors(lambda t: t[BIAS].zero_()), "L3", "every bias is 0"),
    "gate and up of one expert": (tensors(lambda t: halves(t, range(3, 4))), "L2E3", "gate_proj and up_proj are"),
    "gate and up of all experts": (
        tensors(lambda t: halves(t, range(16))), "L2", "gate_proj and up_proj of all routed experts are swapped"),
    "two experts swapped": (tensors(lambda t: reorder(t, 2, {3: 12, 12: 3})), "L2E3", "experts E3 and E12 are swapped"),
    "three experts cycled": (
        tensors(lambda t: reorder(t, 2, {3: 12, 12: 7, 7: 3})), "L2E3", "E3, E7 and E12 are in another order"),
    "an expert scaled": (tensors(lambda t: t[expert(2, 3, "down_proj")].mul_(1.3)), "L2E3", "expert E3 gives other"),
    "shared expert zero": (
        tensors(lambda t: [t[of(2, f"mlp.shared_experts.{part}")].zero_() for part in PROJECTIONS]),
        "L2", "the shared expert or more than 6 routed experts"),
    "layers swapped": (tensors(lambda t: swap_layers(t, 2, 3)), "L2", "L2 and L3 carry each other's bias"),
    "head noise": (tensors(lambda t: noise(t, HEAD)), "", "all layers agree with the reference, log-probabilities"),
    "final norm of ones": (tensors(lambda t: t[NORM].fill_(1)), "", "all layers agree with the reference"),
}  # fmt: skip

# What changes files and no result.
HARMLESS: dict[str, Plant] = {
    "nothing": lambda folder: None,
    "experts renumbered within a group": tensors(lambda t: renumber(t, 3, [2, 0, 1, *range(3, 16)])),
    "groups renumbered": tensors(lambda t: renumber(t, 3, [*range(4, 8), *range(4), *range(8, 16)])),
    "rounded to bfloat16": tensors(lambda t: rounded(t, torch.bfloat16)),
    "rounded to float16": tensors(lambda t: rounded(t, torch.float16)),
    "another end of sequence": config(eos_token_id=4),
    "a longer context": config(max_position_embeddings=512),
}
