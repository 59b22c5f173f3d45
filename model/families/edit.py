"""Turns the interventions of a request into edits of the routing that the experts are about to receive.

Interventions mean what they mean in the own network (`model/network/moe.py`), with two exceptions.
- Without a rule, a knocked-out expert keeps its place and gets gate weight 0; no other expert takes its place.
- Where a table gives the experts by token id, it keeps its place too; the weights of the others are normalised
  without it. A smaller top-k keeps the experts of the table with the highest affinity.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from model.families.block_edit import BlockEdit, Changes, Given, mask_of
from model.families.found import BlockRouter, Found
from model.families.tape import Edit
from model.run.interventions import (
    BiasOff,
    ForceExpert,
    GateTemperature,
    GroupLimitOff,
    Intervention,
    KnockOut,
    Replay,
    ScoreThreshold,
    TopK,
)
from model.run.request import RequestError
from model.trace.router_rule import IDENTITY, RouterRule

_NO_RULE = "the rule of this router is not known, so only knock-outs and a replayed routing can be applied"
_NO_LOGITS = "this router returns probabilities, so no temperature can divide its logits"
_TABLE = "a table gives the experts by token id"


def edits(interventions: Iterable[Intervention], found: Found, blocks: Mapping[int, str]) -> dict[str, Edit]:
    """Return the edits of a run by the path of a block, for `Tape.edits`.

    Args:
        interventions: those of the request.
        found: the router's rule, or that it is not known.
        blocks: number of each MoE layer in the trace -> path of its block.

    Raises:
        RequestError: an intervention names a layer or expert that the model lacks, cannot be computed for its router,
            leaves it too few experts, or contradicts another.
    """
    changed: dict[int, Changes] = {}
    for change in interventions:
        for layer in _affected(change, found, blocks):
            block = found.blocks[blocks[layer]]
            _check_rule(change, layer, found, block)
            changed[layer] = _apply(changed.get(layer, Changes(block.top_k)), change, layer, block)
    rule = found.rule if found.is_complete else None
    edited: dict[str, Edit] = {}
    for layer, changes in changed.items():
        block = found.blocks[blocks[layer]]
        _check(layer, changes, rule, block)
        if changes != Changes(block.top_k):
            edited[blocks[layer]] = BlockEdit(block, rule, changes)
    return edited


def missing(found: Found) -> dict[str, str]:
    """Return the interventions that no block of the model allows: class name -> why, as a sentence without a stop."""
    if not found.is_complete:
        kinds = (ForceExpert, TopK, BiasOff, GroupLimitOff, GateTemperature, ScoreThreshold)
        return {kind.__name__: _NO_RULE for kind in kinds}
    rule, reasons = found.rule, {}
    assert rule is not None
    if not rule.has_selection_bias:
        reasons[BiasOff.__name__] = "this router has no bias to leave out"
    if rule.num_kept_groups == rule.num_groups:
        reasons[GroupLimitOff.__name__] = "this router has no group limit to leave out"
    if rule.scoring == IDENTITY:
        reasons[GateTemperature.__name__] = _NO_LOGITS
    return reasons


def _affected(change: Intervention, found: Found, blocks: Mapping[int, str]) -> tuple[int, ...]:
    """Return the MoE layers that an intervention changes."""
    selecting = tuple(layer for layer, path in blocks.items() if found.blocks[path].table is None)
    match change:
        case TopK():
            return tuple(blocks)
        case Replay():
            named = change.layers
        case BiasOff(layer=None) | GroupLimitOff(layer=None):
            return selecting
        case _:
            if change.layer is None:
                return tuple(blocks)
            named = (change.layer,)
    if without := [layer for layer in named if layer not in blocks]:
        raise RequestError(f"layer {without[0]} has no router; MoE layers are {min(blocks)} to {max(blocks)}")
    return named


def _check_rule(change: Intervention, layer: int, found: Found, block: BlockRouter) -> None:
    """Raise an error if the router of a layer has no such decision to change."""
    if isinstance(change, KnockOut | Replay):
        return
    if not found.is_complete:
        raise RequestError(f"layer {layer}: {_NO_RULE}")
    if isinstance(change, GateTemperature) and found.rule is not None and found.rule.scoring == IDENTITY:
        raise RequestError(f"layer {layer}: {_NO_LOGITS}")
    if block.table is None:
        return
    if isinstance(change, ForceExpert):
        raise RequestError(f"layer {layer}: {_TABLE}; none can be forced")
    if isinstance(change, BiasOff | GroupLimitOff):
        raise RequestError(f"layer {layer}: {_TABLE}; no bias or group limit takes part")
    if isinstance(change, TopK) and change.k > block.top_k:
        raise RequestError(f"layer {layer}: {_TABLE}, {block.top_k} for each token; top-k {change.k} is too many")


def _apply(changes: Changes, change: Intervention, layer: int, block: BlockRouter) -> Changes:
    match change:
        case KnockOut():
            return dataclasses.replace(changes, knocked_out=changes.knocked_out | {_expert(change.expert, block)})
        case ForceExpert():
            return dataclasses.replace(changes, forced=changes.forced | {_expert(change.expert, block)})
        case TopK():
            if not 1 <= change.k <= block.columns:
                raise RequestError(f"top-k {change.k} is not between 1 and {block.columns}")
            return dataclasses.replace(changes, top_k=change.k)
        case BiasOff():
            return dataclasses.replace(changes, use_bias=False)
        case GroupLimitOff():
            return dataclasses.replace(changes, limit_groups=False)
        case GateTemperature():
            return dataclasses.replace(changes, temperature=change.temperature)
        case ScoreThreshold():
            return dataclasses.replace(changes, threshold=change.threshold)
        case Replay():
            return dataclasses.replace(changes, given=_given(change, layer, block))


def _check(layer: int, changes: Changes, rule: RouterRule | None, block: BlockRouter) -> None:
    """Raise an error if the changes of a layer contradict each other, or may leave fewer experts than top-k."""
    if rule is not None and block.table is None:
        lost_G = np.count_nonzero(mask_of(changes.knocked_out, block.columns).reshape(rule.num_groups, -1), axis=-1)
        kept = rule.num_kept_groups if changes.limit_groups else rule.num_groups
        fewest = int(np.sort(rule.group_size - lost_G)[:kept].sum())
        if fewest < changes.top_k:
            raise RequestError(
                f"layer {layer}: {fewest} experts may be all that is left to choose {changes.top_k} from"
            )
    if changes.knocked_out & changes.forced:
        raise RequestError(f"layer {layer}: an expert is both knocked out and forced")
    if len(changes.forced) > changes.top_k:
        raise RequestError(f"layer {layer}: more experts are forced than the router may select")
    if changes.given is not None:
        _check_given(layer, changes, changes.given)


def _check_given(layer: int, changes: Changes, given: Given) -> None:
    """Raise an error if a given routing comes with other changes, repeats an expert in a row, or has a wrong top-k."""
    if changes != Changes(changes.top_k, given=given):
        raise RequestError(f"layer {layer}: its routing is replayed; nothing else can be changed there but the top-k")
    top_k = given.ids.shape[-1]
    if top_k != changes.top_k:
        raise RequestError(
            f"layer {layer}: the replayed routing has {top_k} experts per token, this run {changes.top_k}"
        )
    ordered = np.sort(given.ids, axis=-1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise RequestError(f"layer {layer}: the replayed routing sends a token to the same expert twice")


def _given(change: Replay, layer: int, block: BlockRouter) -> Given:
    place = change.layers.index(layer)
    ids, weights = change.id_array[:, place].astype(np.int64), change.weight_array[:, place].astype(np.float32)
    if int(ids.max()) >= block.columns:
        raise RequestError(f"the replayed routing names expert {int(ids.max())}; experts are 0 to {block.columns - 1}")
    return Given(ids, weights)


def _expert(expert: int, block: BlockRouter) -> int:
    if not 0 <= expert < block.columns:
        raise RequestError(f"expert {expert} does not exist; experts are 0 to {block.columns - 1}")
    return expert
