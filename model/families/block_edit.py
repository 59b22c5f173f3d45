"""The edit of one block: the router's decision again, by its rule and with changes.

A changed row gets the experts and gate weights that the router would have chosen. A row that the changes do not concern
stays the same to the bit, with its experts in the router's own order.

Shape suffixes: T tokens of a forward pass, C columns of the router's logits, K selected experts.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import torch

from model.families.found import BlockRouter, Decision, decision_of, weights_of
from model.families.tape import RawRouting
from model.trace.router_rule import RouterRule


class Given(NamedTuple):
    """Experts and gate weights of the first rows of a run; the router decides the rows after them."""

    ids: np.ndarray  # int64 [token, rank], as columns
    weights: np.ndarray  # float32 [token, rank]


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """The changes to the routing of one block; the defaults change nothing."""

    top_k: int
    knocked_out: frozenset[int] = frozenset()
    forced: frozenset[int] = frozenset()
    use_bias: bool = True
    limit_groups: bool = True
    temperature: float = 1.0
    threshold: float = 0.0
    given: Given | None = None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class BlockEdit:
    """The edit of one block, for `Tape.edits`. `rule` is None where no rule gives experts and weights."""

    block: BlockRouter
    rule: RouterRule | None
    changes: Changes

    def __call__(self, raw: RawRouting, start: int) -> RawRouting:
        """Return the routing of the rows from token `start` on; its ids are columns."""
        changes = self.changes
        edited = raw
        if self.rule is not None:
            if dataclasses.replace(changes, given=None) != Changes(self.block.top_k):
                edited = self._decided(self.rule, raw)
        elif changes.knocked_out:
            gone_TK = torch.isin(edited.ids_TK, torch.tensor(sorted(changes.knocked_out), device=raw.ids_TK.device))
            edited = edited._replace(weights_TK=raw.weights_TK.masked_fill(gone_TK, 0))
        return edited if changes.given is None else _over(changes.given, edited, start)

    def _decided(self, rule: RouterRule, raw: RawRouting) -> RawRouting:
        """Return the routing after all changes but a given one."""
        changes, decision = self.changes, decision_of(raw)
        logits_TC = decision.logits_TC
        if changes.temperature != 1:
            logits_TC = logits_TC / np.float32(changes.temperature)
        affinity_TC = rule.affinity(logits_TC)
        if self.block.table is None:
            ids_TK, stays_T = self._selected(rule, decision, logits_TC, affinity_TC)
        else:
            ids_TK = _best_of(decision.ids_TK, affinity_TC, changes.top_k)
            stays_T = ~np.isin(ids_TK, list(changes.knocked_out)).any(-1)
        lost_TC = affinity_TC < np.float32(changes.threshold)
        lost_TC[:, list(changes.knocked_out)] = True
        weights_TK = weights_of(rule, np.where(lost_TC, np.float32(0), affinity_TC), ids_TK, self.block)
        new = raw._replace(ids_TK=torch.from_numpy(ids_TK), weights_TK=torch.from_numpy(weights_TK))
        new = raw._replace(ids_TK=new.ids_TK.to(raw.ids_TK), weights_TK=new.weights_TK.to(raw.weights_TK))
        if changes.temperature != 1 or changes.top_k != self.block.top_k:
            return new
        stays_T &= ~np.take_along_axis(lost_TC, ids_TK, -1).any(-1)
        stays_T1 = torch.from_numpy(stays_T).to(raw.ids_TK.device)[:, None]
        return raw._replace(
            ids_TK=torch.where(stays_T1, raw.ids_TK, new.ids_TK),
            weights_TK=torch.where(stays_T1, raw.weights_TK, new.weights_TK),
        )

    def _selected(
        self, rule: RouterRule, decision: Decision, logits_TC: np.ndarray, affinity_TC: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids [T, K] after the changes, best first, and which rows keep the recorded ids [T]."""
        changes, block = self.changes, self.block
        before_TC = rule.select(block.biased(rule, decision.logits_TC, rule.affinity(decision.logits_TC)))
        edited = dataclasses.replace(rule if changes.limit_groups else rule.ungrouped, top_k=changes.top_k)
        unbiased = dataclasses.replace(block, bias_C=None)
        biased_TC = (block if changes.use_bias else unbiased).biased(rule, logits_TC, affinity_TC)
        forced_C, knocked_out_C = mask_of(changes.forced, block.columns), mask_of(changes.knocked_out, block.columns)
        after_TC = edited.select(biased_TC, knocked_out_C, forced_C)
        columns_TK = np.nonzero(after_TC)[1].reshape(-1, changes.top_k)
        ranked_TC = np.where(forced_C, np.inf, biased_TC)
        order_TK = np.argsort(-np.take_along_axis(ranked_TC, columns_TK, -1), axis=-1, kind="stable")
        ids_TK = np.take_along_axis(columns_TK, order_TK, -1)
        if changes.top_k != block.top_k:
            return ids_TK, np.zeros(len(ids_TK), dtype=bool)
        recorded_TC = np.zeros_like(after_TC)
        np.put_along_axis(recorded_TC, decision.ids_TK, True, axis=-1)
        # Where scores tie within rounding, the router may have selected another expert than the rule does.
        allowed_T = ~recorded_TC[:, knocked_out_C].any(-1) & recorded_TC[:, forced_C].all(-1)
        stays_T = (after_TC == recorded_TC).all(-1) | (after_TC == before_TC).all(-1) & allowed_T
        return np.where(stays_T[:, None], decision.ids_TK, ids_TK), stays_T


def _over(given: Given, raw: RawRouting, start: int) -> RawRouting:
    """Return a routing of rows from token `start` on, with those that are given replaced."""
    ids, weights = (torch.from_numpy(part[start : start + len(raw.ids_TK)]) for part in given)
    rest = slice(len(ids), None)
    return raw._replace(
        ids_TK=torch.cat([ids.to(raw.ids_TK), raw.ids_TK[rest]]),
        weights_TK=torch.cat([weights.to(raw.weights_TK), raw.weights_TK[rest]]),
    )


def _best_of(ids_TK: np.ndarray, affinity_TC: np.ndarray, count: int) -> np.ndarray:
    """Return the ids with the highest affinity, [T, count], in the order in which they are listed."""
    order_TK = np.argsort(-np.take_along_axis(affinity_TC, ids_TK, -1), axis=-1, kind="stable")
    return np.take_along_axis(ids_TK, np.sort(order_TK[:, :count], axis=-1), -1)


def mask_of(columns: frozenset[int], count: int) -> np.ndarray:
    """Return a mask of the given columns, [count]."""
    mask = np.zeros(count, dtype=bool)
    mask[list(columns)] = True
    return mask
