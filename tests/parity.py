"""The same tiny random model in transformers and here, and what both say about the same tokens.

Every parameter and buffer is random: norms are not constant and the selection bias has both signs, so that a part that
is left out, or applied in the wrong place, shows. The largest logit is scaled to 6.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from model.checkpoint.weights import load_model
from model.families.passes import cache_argument
from model.network.cache import LatentCache
from model.network.decision import Routing, Selection
from model.network.tape import Tape
from model.network.transformer import Transformer

Reference: TypeAlias = Any  # a causal language model, whose submodules a type checker cannot see

LARGEST_LOGIT = 6.0
NEAR_TIE = 1e-4

_BASE: dict[str, Any] = {
    **{"vocab_size": 199, "hidden_size": 48, "intermediate_size": 80, "moe_intermediate_size": 24},
    **{"num_hidden_layers": 4, "first_k_dense_replace": 1, "num_attention_heads": 4, "num_key_value_heads": 4},
    **{"q_lora_rank": 20, "kv_lora_rank": 16, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10},
    **{"n_routed_experts": 16, "n_shared_experts": 1, "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2},
    **{"routed_scaling_factor": 2.5, "norm_topk_prob": True, "max_position_embeddings": 128, "rms_norm_eps": 1e-5},
    **{"bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False},
}


def _yarn(mscale: float, mscale_all_dim: float) -> dict[str, Any]:
    scaling = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 16}
    bounds = {"beta_fast": 32.0, "beta_slow": 1.0, "mscale": mscale, "mscale_all_dim": mscale_all_dim}
    return {"rope_parameters": scaling | bounds}


# Sixteen index heads and far fewer keys than tokens: with fewer heads many scores are exactly zero, a tie.
_SPARSE = {"model_type": "deepseek_v32", "index_n_heads": 16, "index_head_dim": 16, "index_topk": 9}
_GLM = _SPARSE | {"model_type": "glm_moe_dsa", "n_group": 1, "topk_group": 1, "v_head_dim": 16}
_V2 = {"model_type": "deepseek_v2", "routed_scaling_factor": 4.0, "norm_topk_prob": False, "n_shared_experts": 2}

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "yarn": _yarn(1.0, 1.0),
    "yarn, two mscales": _yarn(1.0, 0.707),
    "no q_lora": {"q_lora_rank": None, "n_shared_experts": 2},
    "one group": {"n_group": 1, "topk_group": 1, "v_head_dim": 28},
    "tied head": {"tie_word_embeddings": True},
    "attention bias": {"attention_bias": True, "norm_topk_prob": False},
    "sharded": {},
    "published spelling": _yarn(1.0, 1.0),
    "V3.2": _SPARSE,
    "V3.2, yarn": _SPARSE | _yarn(1.0, 1.0),
    "GLM, one indexer for two layers": _GLM | {"indexer_types": ["full", "shared", "full", "shared"]},
    "V2, groups": _V2 | {"topk_method": "group_limited_greedy"},
    "V2, yarn, greedy, no q_lora": _V2 | _yarn(0.707, 0.707) | {"topk_method": "greedy", "q_lora_rank": None},
}


def make_reference(variant: str, seed: int = 0) -> Reference:
    """A random transformers model with eager attention and experts."""
    settings = {"model_type": "deepseek_v3"} | _BASE | VARIANTS[variant]
    model: Reference = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings)).eval()
    model.set_attn_implementation("eager")
    model.set_experts_implementation("eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            randomise(name, tensor, generator)
        largest = model(example_ids()).logits.abs().max()
        model.model.norm.weight.mul_(LARGEST_LOGIT / largest)
    return model


def randomise(name: str, tensor: Tensor, generator: torch.Generator) -> None:
    """Draw a parameter or buffer in place, with the spread that its name calls for; frequencies stay."""
    if "inv_freq" in name:
        return
    noise = torch.randn(tensor.shape, generator=generator)
    if name.endswith("e_score_correction_bias"):
        tensor.copy_(0.4 * noise - 0.2)
    elif name.endswith("norm.weight"):
        tensor.copy_(1 + 0.3 * noise)
    else:
        tensor.copy_(noise if tensor.ndim == 1 else noise * 1.5 / math.sqrt(tensor.shape[-1]))


def example_ids() -> Tensor:
    """Forty token ids, [1, 40]."""
    return torch.randint(0, _BASE["vocab_size"], (1, 40), generator=torch.Generator().manual_seed(7))


def save_reference(model: Reference, folder: Path, variant: str) -> None:
    """Write it as transformers does; in small shards, or in the released spelling, where the variant asks."""
    model.save_pretrained(folder, max_shard_size="20KB" if variant == "sharded" else "1GB")
    if variant == "published spelling":
        path = folder / "config.json"
        path.write_text(json.dumps(_respell(json.loads(path.read_text()))))


def _respell(config: dict[str, Any]) -> dict[str, Any]:
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    rope["type"] = rope.pop("rope_type")
    config["torch_dtype"] = config.pop("dtype")
    return config | {"rope_scaling": rope, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1}


@dataclasses.dataclass(frozen=True)
class Observed:
    """What a model says about one sequence; layers that have no such thing are absent."""

    logits_TV: Tensor
    scores: Mapping[int, Tensor]  # affinity, [token, expert]
    weights: Mapping[int, Tensor]  # as applied, 0 where not selected, [token, expert]
    attention: Mapping[int, Tensor]  # [head, query, key]
    kept: Mapping[int, Tensor]  # keys that the indexer selected, [query, key]
    margins: Mapping[int, Tensor]  # by how much its scores tell the last kept key from the next one, [query]


class _Collector:
    """Gathers pieces of a run and joins them along the tokens."""

    def __init__(self, num_experts: int) -> None:
        self.num_experts = num_experts
        self.logits: list[Tensor] = []
        self.scores: dict[int, list[Tensor]] = {}
        self.weights: dict[int, list[Tensor]] = {}
        self.rows: dict[int, list[Tensor]] = {}
        self.kept: dict[int, list[Tensor]] = {}
        self.margins: dict[int, list[Tensor]] = {}

    def add_routing(self, layer: int, scores_TE: Tensor, ids_TK: Tensor, weights_TK: Tensor) -> None:
        self.scores.setdefault(layer, []).append(scores_TE)
        dense_TE = torch.zeros(len(ids_TK), self.num_experts).scatter_(1, ids_TK, weights_TK.float())
        self.weights.setdefault(layer, []).append(dense_TE)

    def add_attention(self, layer: int, weights_HTS: Tensor) -> None:
        self.rows.setdefault(layer, []).extend(weights_HTS.unbind(1))

    def add_selection(self, layer: int, kept_TS: Tensor) -> None:
        self.kept.setdefault(layer, []).extend(kept_TS.unsqueeze(0).unbind(1))

    def finish(self) -> Observed:
        return Observed(
            torch.cat(self.logits),
            {layer: torch.cat(parts) for layer, parts in self.scores.items()},
            {layer: torch.cat(parts) for layer, parts in self.weights.items()},
            {layer: _square(rows) for layer, rows in self.rows.items()},
            {layer: _square(rows)[0] for layer, rows in self.kept.items()},
            {layer: torch.cat(parts) for layer, parts in self.margins.items()},
        )


def _square(rows: list[Tensor]) -> Tensor:
    padded = [torch.nn.functional.pad(row_HS, (0, len(rows) - row_HS.shape[-1])) for row_HS in rows]
    return torch.stack(padded, dim=1)


class _Tape(_Collector, Tape):
    """Our probe points; attention is the softmax of the very queries and keys that the network used."""

    def attention(
        self, layer: int, query_BHTQ: Tensor, key_BHSQ: Tensor, scale: float, selection: Selection | None
    ) -> None:
        scores_HTS = (query_BHTQ[0] @ key_BHSQ[0].mT) * scale
        num_queries, num_keys = scores_HTS.shape[1:]
        visible_TS = torch.ones(num_queries, num_keys, dtype=torch.bool).tril(num_keys - num_queries)
        if selection is not None:
            visible_TS = visible_TS & selection.kept_BTS[0]
        self.add_attention(layer, scores_HTS.masked_fill(~visible_TS, -math.inf).softmax(-1))

    def selection(self, layer: int, selection: Selection) -> None:
        self.add_selection(layer, selection.kept_BTS[0])
        ranked_TS = selection.scores_BTS[0].sort(dim=-1, descending=True).values
        kept = selection.key_ids_BTK.shape[-1]
        last_T, next_T = ranked_TS[:, kept - 1], ranked_TS[:, kept] if selection.is_partial else -math.inf
        self.margins.setdefault(layer, []).append((last_T - next_T).nan_to_num(math.inf))

    def routing(self, layer: int, routing: Routing) -> None:
        self.add_routing(layer, routing.scores_TE, routing.expert_ids_TK, routing.weights_TK)


def chunks(token_ids: Tensor, sizes: tuple[int, ...]) -> Iterator[Tensor]:
    """The ids in pieces of these sizes; the last size repeats."""
    start = 0
    for size in (*sizes, *[sizes[-1]] * token_ids.shape[1]):
        if start < token_ids.shape[1]:
            yield token_ids[:, start : start + size]
        start += size


@torch.inference_mode()
def observe_ours(model: Transformer, token_ids: Tensor, sizes: tuple[int, ...] | None = None) -> Observed:
    """All tokens at once without a cache, or in pieces of these sizes through the cache."""
    tape = _Tape(model.config.num_experts)
    cache = LatentCache(model.config, token_ids.shape[1], torch.device("cpu"), torch.float32) if sizes else None
    for piece in chunks(token_ids, sizes or (token_ids.shape[1],)):
        tape.logits.append(model(piece, cache=cache, tape=tape)[0])
    return tape.finish()


@torch.inference_mode()
def observe_reference(model: Reference, token_ids: Tensor, sizes: tuple[int, ...] | None = None) -> Observed:
    """The same of transformers, through hooks on its gates; attention only where it runs eagerly."""
    found = _Collector(model.config.n_routed_experts)
    hooks = []
    for layer, block in enumerate(model.model.layers):
        if hasattr(block.mlp, "gate"):
            hooks.append(block.mlp.gate.register_forward_hook(_gate_hook(found, layer, _is_v2(model))))
        if getattr(block.self_attn, "indexer", None) is not None:
            hooks.append(block.self_attn.indexer.register_forward_hook(_indexer_hook(found, layer)))
    eager = model.config._attn_implementation == "eager"
    past = None
    for piece in chunks(token_ids, sizes or (token_ids.shape[1],)):
        result = model(piece, use_cache=sizes is not None, output_attentions=eager, **cache_argument(model, past))
        past = result.past_key_values
        found.logits.append(result.logits[0])
        for layer, weights_BHTS in enumerate(result.attentions if eager else ()):
            found.add_attention(layer, weights_BHTS[0])
    for hook in hooks:
        hook.remove()
    return found.finish()


def _is_v2(model: Reference) -> bool:
    return model.config.model_type == "deepseek_v2"


def _gate_hook(found: _Collector, layer: int, softmax: bool) -> Any:
    def record(_module: object, _inputs: object, outputs: tuple[Tensor, Tensor, Tensor]) -> None:
        logits_TE, weights_TK, ids_TK = outputs
        scores_TE = logits_TE.softmax(-1) if softmax else logits_TE.sigmoid()
        found.add_routing(layer, scores_TE, ids_TK, weights_TK)

    return record


def _indexer_hook(found: _Collector, layer: int) -> Any:
    def record(_module: object, _inputs: object, key_ids_BTK: Tensor) -> None:
        seen = len(found.kept.get(layer, ()))
        num_queries = key_ids_BTK.shape[1]
        num_keys = seen + num_queries
        kept_TS = torch.zeros(num_queries, num_keys, dtype=torch.bool).scatter(1, key_ids_BTK[0].long(), True)
        found.add_selection(layer, kept_TS & torch.ones_like(kept_TS).tril(seen))

    return record


@dataclasses.dataclass(frozen=True)
class Figures:
    """Largest differences between two observations of the same tokens."""

    logits: float
    scores: float
    weights: float  # where both selected the same experts
    attention: float | None
    ids_differ: int  # tokens x layers whose selected sets differ although no candidate was near a tie
    near_ties: int  # tokens x layers where a candidate was
    keys_differ: int  # queries x layers whose selected keys differ although no key was near a tie


def compare(reference: Reference, expected: Observed, actual: Observed) -> Figures:
    """Compare; whether a choice was a near tie is judged by the reference's scores."""
    margins = {layer: _margins(reference, layer, scores_TE) for layer, scores_TE in expected.scores.items()}
    same = {layer: ((w > 0) == (actual.weights[layer] > 0)).all(-1) for layer, w in expected.weights.items()}
    weight_gaps = [(w - actual.weights[layer])[same[layer]] for layer, w in expected.weights.items()]
    shared = expected.attention.keys() & actual.attention.keys()
    return Figures(
        logits=_largest([expected.logits_TV - actual.logits_TV]),
        scores=_largest([scores - actual.scores[layer] for layer, scores in expected.scores.items()]),
        weights=_largest(weight_gaps),
        attention=_largest([expected.attention[i] - actual.attention[i] for i in shared]) if shared else None,
        ids_differ=sum(int((~same[layer] & (margins[layer] > NEAR_TIE)).sum()) for layer in same),
        near_ties=sum(int((margin_T <= NEAR_TIE).sum()) for margin_T in margins.values()),
        keys_differ=sum(
            int(((kept_TS != actual.kept[layer]).any(-1) & (actual.margins[layer] > NEAR_TIE)).sum())
            for layer, kept_TS in (expected.kept if actual.margins else {}).items()
        ),
    )


def _largest(differences: list[Tensor]) -> float:
    return max(float(difference.abs().max()) for difference in differences if difference.numel())


def _margins(reference: Reference, layer: int, scores_TE: Tensor) -> Tensor:
    """How far each token's choice is from another one: the smaller of the group cut's and the expert cut's gap, [T]."""
    config, v2 = reference.config, _is_v2(reference)
    limited = config.topk_group != config.n_group and getattr(config, "topk_method", None) != "greedy"
    biased_TE = scores_TE if v2 else scores_TE + reference.model.layers[layer].mlp.gate.e_score_correction_bias
    grouped_TGE = biased_TE.unflatten(-1, (config.n_group, -1))
    group_scores_TG = grouped_TGE.topk(1 if v2 else 2, dim=-1).values.sum(-1)
    kept_ids = group_scores_TG.topk(config.topk_group if limited else config.n_group, dim=-1).indices
    kept_TG = torch.zeros_like(group_scores_TG, dtype=torch.bool).scatter_(1, kept_ids, True)
    inside_TE = grouped_TGE.masked_fill(~kept_TG[..., None], -math.inf).flatten(1)
    expert_gap_T = _gap(inside_TE, config.num_experts_per_tok)
    return expert_gap_T.minimum(_gap(group_scores_TG, config.topk_group)) if limited else expert_gap_T


def _gap(values_TX: Tensor, kept: int) -> Tensor:
    ranked_TX = values_TX.sort(dim=-1, descending=True).values
    return ranked_TX[:, kept - 1] - ranked_TX[:, kept]


def load_ours(folder: Path) -> Transformer:
    """Our model from the folder, on the CPU in fp32."""
    return load_model(folder, "cpu", torch.float32)
