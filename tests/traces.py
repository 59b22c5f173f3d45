"""Random traces for tests of figures, pages and files: correct in shape and arithmetic, but not from a model."""

import dataclasses

import numpy as np
import xarray as xr

from model.trace.router_rule import SOFTMAX, SQRTSOFTPLUS, RouterRule
from model.trace.shape import RouterFacts, Shape
from model.trace.trace import Token, Trace

PIECES = ("Once", " upon", " a", " wolf", "é", "\n", ".", " the")


def random_trace(
    seed: int = 0,
    num_prompt: int = 6,
    num_new: int = 4,
    num_layers: int = 3,
    num_experts: int = 8,
    num_groups: int = 4,
    num_kept: int = 2,
    top_k: int = 2,
    num_heads: int = 2,
    drafts: bool = False,
) -> Trace:
    """A trace of a model whose first layer is dense, routed by the published rule from random scores."""
    rng = np.random.default_rng(seed)
    num_tokens, moe_layers = num_prompt + num_new, list(range(1, num_layers))
    tokens, text = _tokens(rng, num_prompt, num_new)
    scores = rng.uniform(0.05, 0.95, (num_tokens, len(moe_layers), num_experts)).astype(np.float32)
    bias = rng.normal(0, 0.05, (len(moe_layers), num_experts)).astype(np.float32)
    groups = np.sort((scores + bias).reshape(*scores.shape[:2], num_groups, -1), -1)[..., -2:].sum(-1)
    kept = np.zeros(groups.shape, dtype=bool)
    np.put_along_axis(kept, np.argsort(-groups, -1)[..., :num_kept], True, -1)
    masked = np.where(np.repeat(kept, num_experts // num_groups, -1), scores + bias, -np.inf)
    chosen = np.argsort(-masked, -1)[..., :top_k]
    weights = np.take_along_axis(scores, chosen, -1)
    order = np.argsort(-weights, -1)
    chosen, weights = np.take_along_axis(chosen, order, -1), np.take_along_axis(weights, order, -1)
    raw = np.tril(rng.exponential(1, (num_layers, num_heads, num_tokens, num_tokens)))
    logprob = rng.normal(-3, 1, num_tokens).clip(None, 0).astype(np.float32)
    logprob[0] = np.nan
    candidates = np.sort(rng.normal(-3, 1, (num_tokens, 20)).clip(None, -0.1), -1)[:, ::-1]
    variables = {
        "token_id": (("token",), np.array([token.id for token in tokens], np.int32)),
        "logprob": (("token",), logprob),
        "candidate_id": (("token", "candidate"), rng.integers(1, len(PIECES), (num_tokens, 20)).astype(np.int32)),
        "candidate_logprob": (("token", "candidate"), candidates.astype(np.float32)),
        "residual_norm": (("token", "layer"), rng.uniform(1, 9, (num_tokens, num_layers)).astype(np.float32)),
        "router_score": (("token", "moe_layer", "expert"), scores),
        "expert_bias": (("moe_layer", "expert"), bias),
        "group_score": (("token", "moe_layer", "group"), groups.astype(np.float32)),
        "group_kept": (("token", "moe_layer", "group"), kept),
        "expert_id": (("token", "moe_layer", "rank"), chosen.astype(np.int16)),
        "gate_weight": (("token", "moe_layer", "rank"), (2.5 * weights / weights.sum(-1, keepdims=True)).astype("f4")),
        "attention": (("attention_layer", "head", "query", "key"), (raw / raw.sum(-1, keepdims=True)).astype("f4")),
    }
    if drafts:
        variables |= _drafts(rng, variables, num_prompt)
    coords = {"layer": list(range(num_layers)), "moe_layer": moe_layers}
    coords |= {"attention_layer": list(range(num_layers)), "head": list(range(num_heads))}
    config = {
        "model_type": "deepseek_v3", "num_hidden_layers": num_layers, "first_k_dense_replace": 1,
        "n_routed_experts": num_experts, "n_group": num_groups, "topk_group": num_kept, "num_experts_per_tok": top_k,
        "num_attention_heads": num_heads, "vocab_size": 1 + len(PIECES), "routed_scaling_factor": 2.5,
        "norm_topk_prob": True, "n_shared_experts": 1, "max_position_embeddings": 64,
    }  # fmt: skip
    return Trace(
        data=xr.Dataset(variables, coords=coords),
        tokens=tokens,
        text=text,
        request={
            "prompt": text[: tokens[num_prompt - 1].end].decode(),
            "max_new_tokens": num_new,
            "temperature": 0.0,
            "seed": seed,
        },
        model={"name": "random", "config": config, "weights_sha256": "0" * 64, "tokenizer_sha256": "0" * 64},
        origin={
            "kind": "measured",
            "engine": "test",
            "device": "cpu",
            "dtype": "float32",
            "versions": {},
            "time_utc": "",
        },
    )


QWEN3 = RouterRule(num_experts=8, top_k=2, scoring=SOFTMAX, has_selection_bias=False)
V4 = RouterRule(num_experts=8, top_k=2, scoring=SQRTSOFTPLUS, routed_scale=1.5)


def family_trace(
    rule: RouterRule | None = QWEN3,
    seed: int = 0,
    num_prompt: int = 6,
    num_new: int = 4,
    num_layers: int = 3,
    table_layers: tuple[int, ...] = (),
    idle_from: int | None = None,
) -> Trace:
    """A trace as the engine of other families records it, with a routing block in every layer.

    `rule` None: a router of 8 columns and top-k 2 of which no rule is known. Experts of `table_layers` are random.
    """
    rng, known = np.random.default_rng(seed), rule or QWEN3
    tokens, text = _tokens(rng, num_prompt, num_new)
    axes = len(tokens), num_layers, known.num_experts
    variables = {
        "token_id": (("token",), np.array([token.id for token in tokens], np.int32)),
        "logprob": (("token",), rng.normal(-3, 1, axes[0]).clip(None, 0).astype(np.float32)),
        "residual_norm": (("token", "layer"), rng.uniform(1, 9, axes[:2]).astype(np.float32)),
    } | _routed_by(known, rng, axes, list(table_layers))
    if rule is None:
        del variables["router_score"]
    shape = Shape(
        num_layers=num_layers, moe_layers=tuple(range(num_layers)), num_heads=2, num_experts=known.num_experts,
        blocks=tuple(f"model.layers.{layer}.mlp" for layer in range(num_layers)), top_k=known.top_k,
        idle_from=idle_from, width=16, vocab_size=1 + len(PIECES),
    )  # fmt: skip
    note = None if rule else "no rule gives the recorded experts"
    facts = RouterFacts(rule=rule, table_layers=table_layers, block_factor=1.0, note=note)
    return Trace(
        data=xr.Dataset(variables, coords={"layer": list(range(num_layers)), "moe_layer": list(range(num_layers))}),
        tokens=tokens,
        text=text,
        request={
            "prompt": text[: tokens[num_prompt - 1].end].decode(),
            "max_new_tokens": num_new,
            "temperature": 0.0,
            "seed": seed,
        },
        model={"name": "family", "config": {"model_type": "any_moe"}, "weights_sha256": "0" * 64}
        | {"tokenizer_sha256": "0" * 64, "shape": shape.to_json(), "router": facts.to_json()},
        origin={"kind": "measured", "engine": "transformers", "device": "cpu", "dtype": "float32", "versions": {}}
        | {"time_utc": ""},
    )


def _routed_by(
    rule: RouterRule, rng: np.random.Generator, axes: tuple[int, ...], table_layers: list[int]
) -> dict[str, tuple]:
    """The variables of a router that follows the rule from random logits [token, moe_layer, expert]."""
    slots, scores = ("token", "moe_layer", "rank"), ("token", "moe_layer", "expert")
    logits = rng.normal(0, 1, axes).astype(np.float32)
    affinity = rule.affinity(logits)
    bias = rng.normal(0, 0.1, axes[1:]).astype(np.float32) if rule.has_selection_bias else np.zeros(axes[1:], "f4")
    biased, factor = rule.biased(affinity, bias, logits), rng.uniform(0.5, 2, axes[1:]).astype(np.float32)
    ids = rule.expert_ids(biased)
    ids = np.take_along_axis(ids, np.argsort(-np.take_along_axis(biased, ids, -1), -1), -1)  # the router's order
    ids[:, table_layers] = rng.permuted(np.tile(np.arange(axes[2]), (*axes[:2], 1)), axis=-1)[
        :, table_layers, : rule.top_k
    ]
    factors = np.take_along_axis(np.broadcast_to(factor, axes), ids, -1)
    weights = rule.weights(np.take_along_axis(affinity, ids, -1), factors).astype(np.float32)
    order = np.lexsort([ids, -weights])
    made = {
        "router_logit": (scores, logits),
        "router_score": (scores, affinity.astype(np.float32)),
        "expert_id": (slots, np.take_along_axis(ids, order, -1).astype(np.int16)),
        "gate_weight": (slots, np.take_along_axis(weights, order, -1)),
        "rank_order": (slots, order.astype(np.int16)),
    }
    if rule.has_selection_bias:
        made["expert_bias"] = (("moe_layer", "expert"), bias)
    if rule.has_expert_factor:
        made["expert_factor"] = (("moe_layer", "expert"), factor)
    if rule.num_groups > 1:
        groups = rule.group_scores(biased)
        made["group_score"] = (("token", "moe_layer", "group"), groups.astype(np.float32))
        made["group_kept"] = (("token", "moe_layer", "group"), rule.keep_groups(groups))
    return made


def spelling(*spelled: bytes, generated_from: int = 99) -> Trace:
    """A trace of BOS and these tokens."""
    trace = random_trace(num_prompt=1 + len(spelled), num_new=0)
    tokens, text = [trace.tokens[0]], b""
    for index, part in enumerate(spelled, 1):
        tokens.append(Token(trace.tokens[index].id, "x", len(text), len(text + part), index >= generated_from))
        text += part
    return dataclasses.replace(trace, tokens=tuple(tokens), text=text, request={**trace.request, "prompt": None})


def routed(*slots: list[int], num_experts: int = 8, unknown: int = 0) -> Trace:
    """A trace whose tokens took these experts in both layers, the last ones unknown."""
    rows = [*slots, *[[-1, -1]] * unknown]
    trace = random_trace(num_prompt=len(rows), num_new=0, num_experts=num_experts)
    ids = np.repeat(np.array(rows, np.int16)[:, None], 2, axis=1)
    data = trace.data.assign(expert_id=(("token", "moe_layer", "rank"), ids))
    return dataclasses.replace(trace, data=data, origin={"kind": "imported" if unknown else "measured"})


def _drafts(rng: np.random.Generator, variables: dict, num_prompt: int) -> dict:
    """Half of them match; of the new tokens after the first, one after an accepted draft is not verified."""
    ids, experts = variables["token_id"][1], variables["expert_id"][1]
    matches = rng.random(len(ids)) < 0.5
    wrong = 1 + ids % len(PIECES)
    verified = np.zeros(len(ids), bool)
    for index in range(num_prompt + 1, len(ids)):
        verified[index] = not (verified[index - 1] and matches[index - 1])
    draft_id = np.where(np.arange(len(ids)) < 2, -1, np.where(matches, ids, wrong)).astype(np.int32)
    others = np.roll(experts, 1, axis=0)
    sent = np.where((draft_id == ids)[:, None, None], experts, others)
    sent = np.where(verified[:, None, None], sent, -1).astype(np.int16)
    logprob = rng.normal(-2, 1, len(ids)).clip(None, 0).astype(np.float32)
    logprob[:2] = np.nan
    return {
        "draft_id": (("token",), draft_id),
        "draft_logprob": (("token",), logprob),
        "draft_tried": (("token",), verified),
        "draft_expert_id": (("token", "moe_layer", "rank"), sent),
    }


def _tokens(rng: np.random.Generator, num_prompt: int, num_new: int) -> tuple[tuple[Token, ...], bytes]:
    tokens, text = [Token(0, "<｜begin▁of▁sentence｜>", 0, 0, False)], b""
    for index in range(1, num_prompt + num_new):
        choice = int(rng.integers(len(PIECES)))
        spelled = PIECES[choice].encode()
        tokens.append(Token(choice + 1, PIECES[choice], len(text), len(text) + len(spelled), index >= num_prompt))
        text += spelled
    return tuple(tokens), text
