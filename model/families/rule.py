"""Find the router rule of a running model, and check it on later passes.

A router of transformers returns logits, expert ids and gate weights, but not the rule between them. `find_rule` tries
every rule that `RouterRule` can state on a recorded pass, and keeps those that give the experts and weights of all
blocks: with few tokens, one block alone can follow several rules. The probe should have at least 24 tokens.

If several rules remain, `find_rule` takes the first by this order, and a note names the difference:
1. the fewest contradictions to the configuration (scoring function, normalisation, groups);
2. with a bias if a tensor of that name exists, on affinities before on logits, without factors of experts;
3. the smallest error of the weights, in tenths of the tolerance;
4. without a group limit, groups scored by two experts before one, and softmax before other scoring functions.

Shape suffixes: T tokens of a pass, C columns of the router's logits, K selected experts.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.families.found import (
    BlockRouter,
    Decision,
    Found,
    comes_from,
    decision_of,
    float_array,
    selects,
    tolerance_of,
    weights_of,
)
from model.families.rule_notes import contradictions, notes_on, stated_groups, stated_scales
from model.families.tape import RawRouting
from model.trace.router_rule import IDENTITY, SCORINGS, SOFTMAX, RouterRule


class Case(NamedTuple):
    """The recorded pass of a probe through one block, and the tensors that its rule may use."""

    raw: RawRouting  # as the experts got it, without edits
    tensors: Mapping[str, Tensor]  # name within the block -> tensor, without those of the experts
    slots: int  # number of ids that the experts accept
    table: Tensor | None = None  # [token id, rank], which may give the experts


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A rule, with the names of its tensors in a block."""

    rule: RouterRule
    bias: str | None
    factor: str | None = None
    error: float = 0.0  # largest relative error of a gate weight, in tolerances


@dataclasses.dataclass(eq=False)
class _Block:
    """A case in numpy."""

    decision: Decision
    vectors: dict[str, tuple[np.ndarray, torch.dtype]]  # name -> float32 [C], and the dtype of the model
    table: np.ndarray | None
    slots: int
    affinities: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # by scoring, computed once

    def affinity(self, rule: RouterRule) -> np.ndarray:
        if rule.scoring not in self.affinities:
            self.affinities[rule.scoring] = rule.affinity(self.decision.logits_TC)
        return self.affinities[rule.scoring]

    def ratios(self, candidate: Candidate) -> np.ndarray:
        """Return the recorded weights over those of the candidate, without choices that compute nothing; [weight]."""
        decision = self.decision
        expected_TK = weights_of(candidate.rule, self.affinity(candidate.rule), decision.ids_TK, self.part(candidate))
        counts_TK = (decision.ids_TK < self.slots) & ~((decision.weights_TK == 0) & (expected_TK == 0))
        with np.errstate(divide="ignore"):
            return decision.weights_TK[counts_TK] / expected_TK[counts_TK]

    def part(self, candidate: Candidate | None) -> BlockRouter:
        """Return what the block adds to the rule of a candidate; None: no rule."""
        names = (candidate.bias if self.table is None else None, candidate.factor) if candidate else (None, None)
        bias, factor = ((None, torch.float32) if name is None else self.vectors[name] for name in names)
        sizes = self.decision.logits_TC.shape[-1], self.slots, self.decision.ids_TK.shape[-1]
        return BlockRouter(*sizes, bias_C=bias[0], bias_dtype=bias[1], factor_C=factor[0], table=self.table)


def find_rule(cases: Mapping[str, Case], config: Mapping[str, Any], token_ids: Tensor) -> Found:
    """Return the rule that gives the experts and weights of all cases, or why there is none.

    Args:
        cases: path of a block -> its recorded pass, in the order of the model.
        config: the configuration of the text model by key; decides between rules that the probe cannot tell apart.
        token_ids: the tokens of the pass.
    """
    blocks, reason = _blocks(cases, token_ids)
    if reason is not None:
        return Found(rule=None, blocks={path: _sizes_of(case) for path, case in cases.items()}, reason=reason)
    by_ids = [each for each in _selections(blocks, config) if _selects_all(each, blocks)]
    scales, dtypes = stated_scales(config), {block.decision.weights_dtype for block in blocks.values()}
    tolerance = max(map(tolerance_of, dtypes))
    complete = [one for each in by_ids for one in _weightings(each, blocks, scales, tolerance)]
    if not complete:  # the weights may be a wider copy of what was computed in the dtype of the logits
        tolerance = max(tolerance_of(block.decision.logits_dtype) for block in blocks.values())
        complete = [one for each in by_ids for one in _weightings(each, blocks, scales, tolerance)]
    fitting = complete or by_ids
    best = min(fitting, key=lambda one: _order(one, config), default=None)
    if best is None:
        reason = "no rule that the app knows selects the experts of a probe run"
    elif not complete:
        reason = "the experts follow from the router's logits, but no rule that the app knows gives their weights"
    return Found(
        rule=best and best.rule,
        blocks={path: block.part(best) for path, block in blocks.items()},
        tolerance=tolerance,
        bias_name=best and best.bias,
        factor_name=best and best.factor,
        reason=reason,
        notes=() if best is None else notes_on(best.rule, [one.rule for one in fitting], config),
    )


def holds(found: Found, path: str, raw: RawRouting, token_ids: Tensor | None = None) -> bool:
    """Return whether the rule gives the experts of a recorded pass, and the gate weights if it states them.

    Args:
        found: a result of `find_rule`; without a rule, nothing holds.
        path: the path of a block that no intervention changed.
        raw: any number of rows of the block.
        token_ids: the tokens of these rows; needed where a table gives the experts.
    """
    rule, block = found.rule, found.blocks[path]
    if rule is None or raw.logits_TC is None:
        return False
    decision = decision_of(raw)
    if not np.isfinite(decision.logits_TC).all():
        return False
    affinity_TC = rule.affinity(decision.logits_TC)
    if block.table is not None:
        follows = token_ids is not None and comes_from(block.table, token_ids, decision.ids_TK)
    else:
        follows = _selects(rule, decision, affinity_TC, block)
    if not follows or not found.is_complete:
        return follows
    expected_TK = weights_of(rule, affinity_TC, decision.ids_TK, block)
    allowed_TK = 2 * found.tolerance * np.abs(expected_TK) + decision.smallest
    return bool((np.abs(decision.weights_TK - expected_TK) <= allowed_TK).all())


def _selects(rule: RouterRule, decision: Decision, affinity_TC: np.ndarray, block: BlockRouter) -> bool:
    biased_TC = block.biased(rule, decision.logits_TC, affinity_TC)
    return selects(rule, biased_TC, decision.ids_TK, decision.slack(affinity_TC, biased_TC, block.bias_dtype))


def _selects_all(candidate: Candidate, blocks: Mapping[str, _Block]) -> bool:
    """Return whether the candidate selects the recorded experts of all blocks without a table."""
    rule, selecting = candidate.rule, (block for block in blocks.values() if block.table is None)
    return all(_selects(rule, each.decision, each.affinity(rule), each.part(candidate)) for each in selecting)


def _blocks(cases: Mapping[str, Case], token_ids: Tensor) -> tuple[dict[str, _Block], str | None]:
    """Return the cases in numpy, or a reason why no rule can be searched."""
    silent = [path for path, case in cases.items() if case.raw.logits_TC is None]
    if silent or not cases:
        return {}, f"the router of {silent[0]} returns no logits" if silent else "no block was recorded"
    blocks = {}
    for path, case in cases.items():
        decision = decision_of(case.raw)
        vectors, table = _vectors(case.tensors, decision.logits_TC.shape[-1]), _table(case, decision, token_ids)
        blocks[path] = _Block(decision, vectors, table, case.slots)
    if not all(np.isfinite(block.decision.logits_TC).all() for block in blocks.values()):
        return {}, "a router returned logits that are no finite numbers"
    sizes = {(block.decision.logits_TC.shape[-1], block.decision.ids_TK.shape[-1]) for block in blocks.values()}
    if len(sizes) > 1:
        return {}, "the blocks differ in their number of experts, and one rule describes all blocks"
    return blocks, None


def _sizes_of(case: Case) -> BlockRouter:
    logits_TC, ids_TK, _ = case.raw
    return BlockRouter(case.slots if logits_TC is None else logits_TC.shape[-1], case.slots, ids_TK.shape[-1])


def _vectors(tensors: Mapping[str, Tensor], num_columns: int) -> dict[str, tuple[np.ndarray, torch.dtype]]:
    """Return the tensors of one number per column; the own bias of a linear layer is in its logits already."""
    return {
        name: (float_array(tensor).reshape(-1), tensor.dtype)
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.numel() == num_columns
        if name.rpartition(".")[2] not in ("bias", "weight")
    }


def _table(case: Case, decision: Decision, token_ids: Tensor) -> np.ndarray | None:
    """Return the table of the case if it gives the experts of each token, else None."""
    if case.table is None or case.table.shape[-1] != decision.ids_TK.shape[-1]:
        return None
    table = case.table.cpu().numpy().astype(np.int64)
    return table if comes_from(table, token_ids, decision.ids_TK) else None


def _selections(blocks: Mapping[str, _Block], config: Mapping[str, Any]) -> Iterator[Candidate]:
    """Yield the candidates that differ in how experts are selected; their weights are unknown."""
    decisions = [block.decision for block in blocks.values()]
    num_columns, top_k = decisions[0].logits_TC.shape[-1], decisions[0].ids_TK.shape[-1]
    vectors = [set(block.vectors) for block in blocks.values() if block.table is None]
    names = sorted(set.intersection(*vectors)) if vectors else []
    biases = [(None, False), *itertools.product(names, (False, True))]
    for scoring, limit, (bias, on_logits) in itertools.product(SCORINGS, _limits(config, num_columns, top_k), biases):
        if scoring == IDENTITY and not all(_are_probabilities(decision.logits_TC) for decision in decisions):
            continue
        number, kept, judges = limit
        rule = RouterRule(
            num_experts=num_columns, top_k=top_k, num_groups=number, num_kept_groups=kept, scores_per_group=judges,
            scoring=scoring, has_selection_bias=bias is not None, bias_on_logits=on_logits,
            normalise_weights=None, routed_scale=None,
        )  # fmt: skip
        yield Candidate(rule, bias)


def _are_probabilities(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and np.abs(values.sum(-1) - 1).max() < 1e-2)


def _limits(config: Mapping[str, Any], num_columns: int, top_k: int) -> list[tuple[int, int, int]]:
    """Return the group limits to try: number of groups, number of kept groups, scores per group."""
    limits = [(1, 1, 2)]
    if groups := stated_groups(config):
        number, kept = groups
        size, rest = divmod(num_columns, number)
        if kept < number and not rest and top_k <= kept * size:
            limits += [(number, kept, judges) for judges in (2, 1) if judges <= size]
    return limits


def _weightings(
    candidate: Candidate, blocks: Mapping[str, _Block], scales: Sequence[float], tolerance: float
) -> Iterator[Candidate]:
    """Yield the candidate with each way of weighing that gives the recorded weights up to one factor."""
    names = set.intersection(*(set(block.vectors) for block in blocks.values())) - {candidate.bias}
    for normalise, factor in itertools.product((True, False), [None, *sorted(names)]):
        rule = dataclasses.replace(
            candidate.rule, normalise_weights=normalise, has_expert_factor=factor is not None, routed_scale=1.0
        )
        tried = dataclasses.replace(candidate, rule=rule, factor=factor)
        ratios = np.concatenate([block.ratios(tried) for block in blocks.values()])
        middle = float(np.median(ratios)) if ratios.size else 1.0
        if not 0 < middle < np.inf:
            continue
        error = float(np.abs(ratios / middle - 1).max(initial=0)) / tolerance
        if error <= 1:
            scale = _rounded_scale(float(ratios.mean()) if ratios.size else 1.0, tolerance, scales)
            yield dataclasses.replace(tried, rule=dataclasses.replace(rule, routed_scale=scale), error=error)


def _rounded_scale(value: float, tolerance: float, stated: Sequence[float]) -> float:
    """Return the number that a measured value stands for: the nearest stated one, or 1, else that of fewest digits.

    >>> _rounded_scale(1.69997, 1e-4, []), _rounded_scale(2.827001, 1e-5, [2.5]), _rounded_scale(1.001, 0.016, [1.01])
    (1.7, 2.827, 1.01)
    """
    nearest = sorted(stated, key=lambda number: abs(number - value))
    numbers = (*nearest, 1.0, *(float(f"{value:.{digits}g}") for digits in range(1, 8)))
    return next((number for number in numbers if abs(number - value) <= tolerance * value), value)


def _order(candidate: Candidate, config: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the sort key of a candidate; the docstring of the module states the order."""
    rule, bias = candidate.rule, candidate.bias
    return (
        len(contradictions(rule, config)),
        0 if bias is not None and "bias" in bias else 1 if bias is None else 2,
        rule.bias_on_logits,
        rule.has_expert_factor,
        round(candidate.error * 10),
        rule.num_kept_groups < rule.num_groups,
        -rule.scores_per_group,
        rule.scoring != SOFTMAX,
        list(SCORINGS).index(rule.scoring),
    )
