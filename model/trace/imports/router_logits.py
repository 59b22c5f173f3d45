"""Hugging Face `router_logits` in a safetensors file: the router's logits, before scoring function and bias.

The tensors are `router_logits.{layer}` [token, expert] or [sequence, token, expert], named by model layer number, as
transformers' models return them with `output_router_logits`. `sequences.py` separates the sequences of a flattened
batch. Affinities are computed from the logits. The selected experts are computed by the router rule if the model and
its selection bias are known. The trace marks all computed variables as derived.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from model.trace import limits
from model.trace.imports import sequences
from model.trace.imports.building import Named, Words, labelled
from model.trace.imports.origin import origin
from model.trace.imports.reading import floats, member, token_ids
from model.trace.router_rule import SCORINGS, RouterRule, selection_of
from model.trace.trace import Trace, TraceError

_LAYER = re.compile(r"router_logits\.(\d{1,6})")
MISSING = {
    "probabilities of tokens": "the file holds the router's numbers only",
    "attention": "the file holds the router's numbers only",
}
NO_MODEL = "name the model: the selection depends on its groups, its experts per token and its bias"
NO_BIAS = "name a model folder with weights: the selection depends on the bias"


def is_file(names: Any) -> bool:
    """Return whether the tensors of a safetensors file are router logits."""
    return any(_LAYER.fullmatch(str(name)) for name in names)


def read(content: bytes, named: Named | None, request: Any = None, choice: int = 0) -> Trace:
    """Return the trace of one sequence in the file.

    Args:
        content: bytes of the file.
        named: the model that was run; if None, affinities are the sigmoid of the logits, and no selection is derived.
        request: object with the `prompt` or `token_ids` of the run; None if unknown. For a batch, `token_ids` has a
            list per sequence, and `attention_mask` marks padding.
        choice: index of the sequence in a batch.

    Raises:
        TraceError: the file is damaged, does not fit the model, or holds sequences that cannot be separated.
    """
    layers, logits = _stacked(floats(content))
    logits, ids, notes = _one_sequence(logits, request, choice)
    num_tokens, _, num_experts = logits.shape
    limits.check_tokens(num_tokens)
    rule = RouterRule(num_experts=num_experts, top_k=1) if named is None else _known_rule(named)
    score = rule.affinity(logits)
    data = xr.Dataset({"router_score": (("token", "moe_layer", "expert"), score)}, {"moe_layer": layers})
    missing, derived = dict(MISSING), ["router_score"]
    if named is None:
        missing["chosen experts and weights"] = NO_MODEL
        named = Named("a model that was not named", {"n_routed_experts": num_experts})
    else:
        selection = _selection(data["router_score"], named, missing)
        data, derived = data.assign(selection), [*derived, *map(str, selection)]
    prompt = member(request, "prompt", str, "the request")
    words = Words(prompt=prompt, prompt_ids=ids, num_prompt=num_tokens, num_new=0).completed(named)
    tokens, text = labelled(words, named, num_tokens)
    ids = np.array([token.id for token in tokens], np.int32)
    return Trace(
        data=data.assign(token_id=(("token",), ids)),
        tokens=tokens,
        text=text,
        request={"prompt": words.prompt, "max_new_tokens": 0},
        model=named.description(),
        origin=origin("transformers", "Hugging Face router_logits", missing, notes, derived=derived),
    )


def _stacked(tensors: Mapping[str, np.ndarray]) -> tuple[list[int], np.ndarray]:
    """Return the model layer numbers in order, and their logits [token, layer, expert]."""
    unknown = [name for name in tensors if not _LAYER.fullmatch(name)]
    if unknown:
        raise TraceError(f"the file holds {unknown[0]!r:.80}, and not only router_logits.N [token, expert]")
    layers = {int(name.split(".")[1]): values for name, values in tensors.items()}
    first = next(iter(layers.values()), np.zeros(0))
    same = len(layers) == len(tensors) and all(values.shape == first.shape for values in layers.values())
    if not same or first.ndim not in (2, 3):
        raise TraceError("router_logits must have the same shape [token, expert] in every layer, each named once")
    logits = np.stack([layers[layer] for layer in sorted(layers)], axis=-2)
    if not logits.size or not np.isfinite(logits).all():
        raise TraceError("router_logits must be finite numbers, of at least one token and one expert")
    silent = (logits == logits[..., :1]).all(-1).reshape(-1, len(layers)).all(0)
    if silent.any():
        layer = sorted(layers)[int(silent.argmax())]
        raise TraceError(f"router_logits.{layer} are equal for all experts of every token: nothing was recorded there")
    return sorted(layers), logits


def _one_sequence(logits: np.ndarray, request: Any, choice: int) -> tuple[np.ndarray, list[int] | None, list[str]]:
    """Return the rows of one sequence, [token, layer, expert], its token ids (None if not stated), and notes."""
    batch = sequences.batch_of(request)
    if batch is not None:
        rows, ids = sequences.sequence(logits.reshape(-1, *logits.shape[-2:]), batch, choice)
        return rows, ids, [f"sequence {choice} of the {len(batch.ids)} that the file holds; padding is left out"]
    ids = token_ids(request.get("token_ids"), "token_ids") if isinstance(request, Mapping) else None
    notes = []
    if logits.ndim == 4:
        if not 0 <= choice < len(logits):
            raise TraceError(f"the file holds {len(logits)} sequences, none of number {choice}")
        if len(logits) > 1:
            notes.append(f"sequence {choice} of the {len(logits)} that the file holds, with its padding, if it has any")
        logits = logits[choice]
    if ((logits >= 0) & (logits <= 1)).all():
        notes.append("all numbers lie between 0 and 1: are these scores, after the sigmoid or softmax, and no logits?")
    return logits, ids, [*notes, *sequences.check_one(logits, ids)]


def _known_rule(named: Named) -> RouterRule:
    """Return the model's router rule; refuse a rule that is only partly known."""
    rule = named.shape.rule
    if rule.scoring not in SCORINGS or rule.routed_scale is None:
        known = ", ".join(SCORINGS)
        raise TraceError(f"the model named scores by {rule.scoring!r:.40}; only {known} are known here")
    if rule.normalise_weights is None:
        stated = named.config["norm_topk_prob"]
        raise TraceError(f"norm_topk_prob of the model named must be true or false, not {stated!r:.40}")
    return rule


def _selection(score: xr.DataArray, named: Named, missing: dict[str, str]) -> dict[str, xr.DataArray]:
    """Return the experts that the rule selects, as trace variables; an empty dict if model or bias is unknown."""
    shape, layers = named.shape, score["moe_layer"].values.tolist()
    rule = shape.rule
    if score.sizes["expert"] != rule.num_experts or not set(layers) <= set(shape.moe_layers):
        raise TraceError(
            f"the file has {score.sizes['expert']} experts in layers {layers[0]} to {layers[-1]}; the model named has "
            f"{rule.num_experts} in {shape.moe_layers[0]} to {shape.moe_layers[-1]} (N of router_logits.N is the model "
            "layer's number, dense layers counted)"
        )
    method = selection_of(named.config)
    if method == "greedy":
        return _by_rule(score, None, rule)
    biases = None if named.bias is None or method != "noaux_tc" else [named.bias(layer) for layer in layers]
    if biases is None:
        other = f"the model's topk_method {method!r:.40} is not followed here"
        missing["chosen experts and weights"] = NO_BIAS if method == "noaux_tc" else other
        return {}
    if any(values.shape != (rule.num_experts,) for values in biases):
        raise TraceError("the selection bias of the model named is not one number to an expert")
    bias = xr.DataArray(np.stack(biases).astype(np.float32), {"moe_layer": layers}, ("moe_layer", "expert"))
    return _by_rule(score, bias, rule)


def _by_rule(score: xr.DataArray, bias: xr.DataArray | None, rule: RouterRule) -> dict[str, xr.DataArray]:
    """Return the experts by group-limited top-k on biased scores, and their weights, as trace variables."""
    biased = rule.biased(score, 0 if bias is None else bias).values
    ids = rule.expert_ids(biased)
    affinity = np.take_along_axis(score.values, ids, -1)
    order = np.argsort(-affinity, axis=-1, kind="stable")
    ids, affinity = np.take_along_axis(ids, order, -1), np.take_along_axis(affinity, order, -1)
    slots, coords = ("token", "moe_layer", "rank"), {"moe_layer": score["moe_layer"].values}
    variables = {
        "expert_id": xr.DataArray(ids.astype(np.int16), coords, slots),
        "gate_weight": xr.DataArray(rule.weights(affinity).astype(np.float32), coords, slots),
    }
    if bias is None:
        return variables
    dims, group_scores = ("token", "moe_layer", "group"), rule.group_scores(biased)
    return variables | {
        "expert_bias": bias,
        "group_score": xr.DataArray(group_scores, coords, dims),
        "group_kept": xr.DataArray(rule.keep_groups(group_scores), coords, dims),
    }
