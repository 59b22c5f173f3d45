"""What the router of every family does, and a check of a found rule and of its edits on a running model.

`RULES` is written from the modeling files of transformers, so that it does not depend on the search. The formula of the
gate weights here is in torch; the app's is in numpy.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
import torch

from model.families.edit import edits
from model.families.found import Found
from model.families.rule import Case, find_rule, holds
from model.families.tape import RawRouting, Tape
from model.run.interventions import ForceExpert, Intervention, KnockOut, Replay, TopK
from model.run.request import RequestError
from tests.families import Watched

PROBE, OTHER = list(range(3, 27)), list(range(200, 104, -4))

# Rule -> the families that follow it with the tiny configurations of `tests/families.py`.
_FAMILIES = {
    "softmax": "flex_olmo jamba olmoe qwen2_moe",
    "softmax x1.7": "deepseek_ocr2 unlimited_ocr",
    "softmax x1.7, 2 groups by 1": "deepseek_v2",
    "softmax, normalised": "aria_text cohere2_moe dbrx gpt_oss granitemoe granitemoe_swa granitemoehybrid "
    "granitemoeshared hunyuan_v1_moe jetmoe mellum minimax mixtral qwen3_5_moe_text qwen3_moe qwen3_next "
    "qwen3_omni_moe_thinker qwen3_vl_moe qwen4_exp_text",
    "softmax, normalised x1.7, 2 groups by 2": "mistral4 mistral_large4",
    "softmax, normalised, bias": "ernie4_5_moe ernie4_5_vl_moe",
    "softmax, bias": "zaya",
    "softmax x1.7, bias": "longcat_flash",
    "softmax, weights unknown": "phimoe",
    "identity, normalised, factor": "gemma4_text",
    "sigmoid": "llama4_text",
    "sigmoid, normalised": "flint",
    "sigmoid, normalised, bias": "laguna minimax_m2 minimax_m3_vl_text step3p7",
    "sigmoid, normalised, bias, 2 groups by 2": "beam",
    "sigmoid, normalised x1.7, bias": "afmoe axk2 hy_v3 inkling2_text lfm2_moe muse_spark",
    "sigmoid, normalised x1.7, bias, 2 groups by 2": "axk1 bailing_hybrid deepseek_v3 deepseek_v32 dots3_note_text "
    "exaone_moe glm4_moe glm4_moe_lite glm4v_moe glm5_next glm_moe_dsa hy_v4 kimi_k25 kimi_linear mimo_v2_flash "
    "nemotron_h solar_open",
    "sigmoid x1.7, bias, 2 groups by 2": "dots1",
    "sigmoid, bias on logits": "kolibri1",
    "sigmoid, bias, weights unknown": "inkling_text",
    "sqrtsoftplus, normalised x1.7, bias, table": "deepseek_v4",
}
RULES = {model_type: rule for rule, families in _FAMILIES.items() for model_type in families.split()}
FIXED_TOP_K = {"jetmoe"}  # its code takes the number from the configuration
AFFINITIES = {
    "softmax": lambda logits: logits.softmax(-1), "sigmoid": torch.sigmoid, "identity": lambda logits: logits,
    "sqrtsoftplus": lambda logits: torch.nn.functional.softplus(logits).sqrt(),
}  # fmt: skip


def routing_of(model: Watched, token_ids: Sequence[int], tape: Tape | None = None) -> dict[str, RawRouting]:
    """Return the routing of one forward pass by path."""
    tape = tape or Tape(norms=False)
    model.logits(token_ids, tape)
    return tape.take().routing


def found_in(model: Watched, routing: Mapping[str, RawRouting], token_ids: Sequence[int]) -> Found:
    """Return the result of a search on a recorded pass."""
    blocks = {path: model.seam.blocks[path] for path in routing}
    cases = {path: Case(routing[path], b.tensors(), b.slots, b.hash_table()) for path, b in blocks.items()}
    return find_rule(cases, model.model.config.get_text_config().to_dict(), torch.tensor(token_ids))


def described(found: Found) -> str:
    """Return a rule in the words of `RULES`."""
    rule = found.rule
    if rule is None:
        return "none"
    text = f"{rule.scoring}, normalised" if rule.normalise_weights else rule.scoring
    text += f" x{rule.routed_scale}" if rule.routed_scale not in (None, 1) else ""
    text += (", bias on logits" if rule.bias_on_logits else ", bias") if found.bias is not None else ""
    text += f", {rule.num_groups} groups by {rule.scores_per_group}" if rule.num_groups > 1 else ""
    text += ", factor" if found.factor is not None else ""
    text += ", table" if any(block.table is not None for block in found.blocks.values()) else ""
    return text if found.is_complete else f"{text}, weights unknown"


def check_rule_and_edits(model_type: str, model: Watched) -> None:
    """Find the rule on a probe, and check it, wrong rules and all kinds of edits on another prompt."""
    found = found_in(model, routing_of(model, PROBE), PROBE)
    assert described(found) == RULES[model_type]
    assert not any("configuration" in note for note in found.notes)
    plain, routing = model.logits(OTHER), routing_of(model, OTHER)
    ids = torch.tensor(OTHER)
    assert all(holds(found, path, raw, ids) for path, raw in routing.items())
    for wrong in wrong_rules(found):
        assert not all(holds(wrong, path, raw, ids) for path, raw in routing.items()), wrong.rule
    labels = dict(enumerate(found.blocks))
    selecting = [layer for layer, path in labels.items() if found.blocks[path].table is None]
    check_knocked_out_and_forced(model, found, labels, selecting, routing)
    if found.is_complete and model_type not in FIXED_TOP_K:
        check_top_k(model, found, labels)
    replay = edits([replay_of(found, routing)], found, labels)
    assert torch.equal(model.logits(OTHER, Tape(replay, norms=False)), plain)


def wrong_rules(found: Found) -> Iterator[Found]:
    """Yield the found rule with one part changed at a time."""
    rule = found.rule
    assert rule is not None
    if found.is_complete:
        other = "sigmoid" if rule.scoring == "softmax" else "softmax"
        yield dataclasses.replace(found, rule=dataclasses.replace(rule, scoring=other))
        yield dataclasses.replace(found, rule=dataclasses.replace(rule, routed_scale=rule.routed_scale * 1.001))
        if found.blocks[next(iter(found.blocks))].top_k > 1:
            normalise = not rule.normalise_weights
            yield dataclasses.replace(found, rule=dataclasses.replace(rule, normalise_weights=normalise))
    if rule.num_groups > 1:
        yield dataclasses.replace(found, rule=rule.ungrouped)
    if found.bias is not None:
        blocks = {path: dataclasses.replace(block, bias_C=None) for path, block in found.blocks.items()}
        yield dataclasses.replace(found, blocks=blocks)
    if found.factor is not None:
        blocks = {path: dataclasses.replace(block, factor_C=None) for path, block in found.blocks.items()}
        yield dataclasses.replace(found, blocks=blocks)


def check_knocked_out_and_forced(
    model: Watched, found: Found, labels: Mapping[int, str], selecting: Sequence[int], routing: Mapping[str, RawRouting]
) -> None:
    """Knock the busiest expert of the first block out and force the idlest one of the last block, in one run."""
    first, last = labels[selecting[0]], labels[selecting[-1]]
    num_experts = found.blocks[first].columns
    busiest = int(routing[first].ids_TK.flatten().bincount(minlength=num_experts).argmax())
    idlest = int(routing[last].ids_TK.flatten().bincount(minlength=num_experts).argmin())
    changes: list[Intervention] = [KnockOut(selecting[0], busiest)]
    force = ForceExpert(selecting[-1], idlest)
    if found.is_complete:
        changes.append(force)
    else:
        with pytest.raises(RequestError, match="the rule of this router is not known"):
            edits([force], found, labels)
    edited = routing_of(model, OTHER, Tape(edits(changes, found, labels), norms=False))
    before, after = routing[first], edited[first]
    hit_T = (before.ids_TK == busiest).any(-1)
    assert hit_T.sum() > 0
    assert torch.equal(after.ids_TK[~hit_T], before.ids_TK[~hit_T])
    assert torch.equal(after.weights_TK[~hit_T], before.weights_TK[~hit_T])
    columns_TK = after.ids_TK
    assert not after.weights_TK[columns_TK == busiest].any()
    if not found.is_complete:
        assert torch.equal(after.ids_TK, before.ids_TK)
        return
    assert not (columns_TK == busiest).any()
    check_weights(found, first, after)
    columns_TK = edited[last].ids_TK
    assert ((columns_TK == idlest).sum(-1) == 1).all()
    check_weights(found, last, edited[last])


def check_top_k(model: Watched, found: Found, labels: Mapping[int, str]) -> None:
    """Run with another top-k, and compare with the best biased scores."""
    k = 2
    routing = routing_of(model, OTHER, Tape(edits([TopK(k)], found, labels), norms=False))
    for path, raw in routing.items():
        columns_TK, block = raw.ids_TK, found.blocks[path]
        assert columns_TK.shape == (len(OTHER), k)
        check_weights(found, path, raw)
        if found.rule.num_groups == 1 and block.table is None:
            scores_TC = raw.logits_TC if found.rule.bias_on_logits else AFFINITIES[found.rule.scoring](raw.logits_TC)
            biased_TC = scores_TC + (0 if block.bias_C is None else torch.from_numpy(block.bias_C))
            assert torch.equal(columns_TK, biased_TC.topk(k).indices)


def check_weights(found: Found, path: str, raw: RawRouting) -> None:
    """Compare gate weights with the formula of the rule, computed in torch."""
    rule, block = found.rule, found.blocks[path]
    columns_TK = raw.ids_TK
    weights_TK = AFFINITIES[rule.scoring](raw.logits_TC.double()).gather(-1, columns_TK)
    if rule.normalise_weights:
        weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
    weights_TK = weights_TK * rule.routed_scale
    if block.factor_C is not None:
        weights_TK = weights_TK * torch.from_numpy(block.factor_C).double()[columns_TK]
    weights_TK = weights_TK.masked_fill(columns_TK >= block.slots, 0)
    torch.testing.assert_close(raw.weights_TK.double(), weights_TK, rtol=1e-5, atol=0)


def replay_of(found: Found, routing: Mapping[str, RawRouting]) -> Replay:
    """Return the recorded routing of all blocks, numbered from 0, as an intervention."""
    ids = np.stack([raw.ids_TK.numpy() for path, raw in routing.items()], axis=1)
    weights = np.stack([raw.weights_TK.numpy() for raw in routing.values()], axis=1)
    values = ids.astype("<i2").tobytes(), weights.astype("<f4").tobytes()
    return Replay(tuple(range(len(routing))), len(ids), ids.shape[-1], *values)
