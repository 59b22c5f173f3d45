"""The router rule that a running model follows, and what each block adds to it; `model/families/rule.py` finds it.

Shape suffixes: T tokens of a pass, C columns of the router's logits, K selected experts, G groups.
A column is an expert, or a choice that computes nothing.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.families.tape import RawRouting
from model.trace.router_rule import RouterRule, margin

EXACT = 1e-5  # relative difference of two weights in float32 that were computed in another order


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class BlockRouter:
    """The parts of the rule that belong to one block; an array is None where the rule has no such part."""

    columns: int
    slots: int  # number of ids that the experts accept
    top_k: int
    bias_C: np.ndarray | None = None  # float32, added for the selection only
    bias_dtype: torch.dtype = torch.float32  # of the model; a sum in a coarser dtype loses more
    factor_C: np.ndarray | None = None  # float32, multiplies the gate weight of each expert
    table: np.ndarray | None = None  # int64 [token id, rank]: the experts follow from the token id alone

    def biased(self, rule: RouterRule, logits_TC: np.ndarray, affinity_TC: np.ndarray) -> np.ndarray:
        """Return the biased scores by which the block selects, [T, C]."""
        return rule.biased(affinity_TC, 0 if self.bias_C is None else self.bias_C, logits_TC)


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Found:
    """The result of a search.

    Attributes:
        rule: the rule of all blocks. If only the experts follow from it, `normalise_weights` and `routed_scale` are
            None. None: not even the experts follow.
        blocks: path of each block -> its part, in the order of the model.
        tolerance: relative difference of gate weights that rounding explains.
        bias_name, factor_name: name within a block of the tensor that holds the bias, and the factors.
        reason: why no rule gives experts and weights, as a sentence without a stop; None if one does.
        notes: sentences without a stop: what the probe does not decide, and what contradicts the configuration.
    """

    rule: RouterRule | None
    blocks: Mapping[str, BlockRouter]
    tolerance: float = EXACT
    bias_name: str | None = None
    factor_name: str | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether experts and gate weights both follow from the rule."""
        return self.rule is not None and self.rule.normalise_weights is not None

    @property
    def bias(self) -> np.ndarray | None:
        """The selection bias, float32 [block, expert]; 0 in a block without one. None: the rule has none."""
        return _stacked(block.bias_C for block in self.blocks.values())

    @property
    def factor(self) -> np.ndarray | None:
        """The factor of each expert, float32 [block, expert]. None: the rule has none."""
        return _stacked(block.factor_C for block in self.blocks.values())


def _stacked(rows: Iterable[np.ndarray | None]) -> np.ndarray | None:
    rows = list(rows)
    sizes = [len(row) for row in rows if row is not None]
    return np.stack([np.zeros(sizes[0], np.float32) if row is None else row for row in rows]) if sizes else None


class Decision(NamedTuple):
    """One block's recorded pass in numpy; the ids are columns."""

    logits_TC: np.ndarray  # float32
    ids_TK: np.ndarray  # int64
    weights_TK: np.ndarray  # float32
    logits_dtype: torch.dtype  # of the model
    weights_dtype: torch.dtype

    @property
    def smallest(self) -> float:
        """Return the difference of two weights that their dtype cannot express."""
        limits = torch.finfo(self.weights_dtype)
        return 2 * limits.smallest_normal * limits.eps

    def slack(self, affinity_TC: np.ndarray, biased_TC: np.ndarray, bias_dtype: torch.dtype) -> np.ndarray:
        """Return how close two biased scores must be, [T], to change places by rounding.

        A router may compute affinities in the dtype of its logits, and the sum in that of affinities and bias.
        """
        summed = torch.promote_types(self.logits_dtype, bias_dtype)
        parts = ((affinity_TC, self.logits_dtype), (biased_TC, summed))
        return np.sum([rounding(dtype) * np.abs(scores_TC).max(-1) for scores_TC, dtype in parts], axis=0)


def rounding(dtype: torch.dtype) -> float:
    """Return the relative difference of two numbers that were computed in another order in a dtype."""
    return (8 if dtype == torch.float32 else 2) * torch.finfo(dtype).eps


def tolerance_of(dtype: torch.dtype) -> float:
    """Return the relative difference of gate weights in a dtype that rounding explains."""
    return max(EXACT, 2 * torch.finfo(dtype).eps)


def decision_of(raw: RawRouting) -> Decision:
    """Return a recorded pass in numpy; its router must have returned logits."""
    assert raw.logits_TC is not None
    ids_TK = raw.ids_TK.cpu().numpy().astype(np.int64)
    dtypes = raw.logits_TC.dtype, raw.weights_TK.dtype
    return Decision(float_array(raw.logits_TC), ids_TK, float_array(raw.weights_TK), *dtypes)


def float_array(tensor: Tensor) -> np.ndarray:
    """Return a tensor of floats as float32 in numpy."""
    return tensor.detach().to("cpu", torch.float32).numpy()


def weights_of(rule: RouterRule, affinity_TC: np.ndarray, ids_TK: np.ndarray, block: BlockRouter) -> np.ndarray:
    """Return the gate weights of given columns, [T, K]; a column that the experts do not accept has weight 0."""
    factors_TK = None if block.factor_C is None else block.factor_C[ids_TK]
    weights_TK = rule.weights(np.take_along_axis(affinity_TC, ids_TK, -1), factors_TK)
    return np.where(ids_TK < block.slots, weights_TK, np.float32(0))


def selects(rule: RouterRule, biased_TC: np.ndarray, ids_TK: np.ndarray, slack_T: np.ndarray) -> bool:
    """Return whether a rule selects the given columns in every row, if scores within the slack may change places."""
    selected_TC = np.zeros(biased_TC.shape, dtype=bool)
    np.put_along_axis(selected_TC, ids_TK, True, axis=-1)
    if (np.count_nonzero(selected_TC, axis=-1) != ids_TK.shape[-1]).any():
        return False
    if rule.num_kept_groups == rule.num_groups:
        return bool((margin(biased_TC, selected_TC) >= -slack_T).all())
    scores_TG, kept, slack_T1 = rule.group_scores(biased_TC), rule.num_kept_groups, slack_T[:, None]
    ranked_TG = np.sort(scores_TG, axis=-1)[:, ::-1]
    possible_TG = scores_TG >= ranked_TG[:, kept - 1, None] - 2 * slack_T1
    certain_TG = scores_TG > ranked_TG[:, kept, None] + 2 * slack_T1
    possible_TC, certain_TC = (np.repeat(mask_TG, rule.group_size, axis=-1) for mask_TG in (possible_TG, certain_TG))
    used_TG = selected_TC.reshape(*scores_TG.shape, -1).any(-1)
    if (selected_TC & ~possible_TC).any() or (np.count_nonzero(used_TG, axis=-1) > kept).any():
        return False
    return bool((margin(biased_TC, selected_TC, certain_TC) >= -slack_T).all())


def comes_from(table: np.ndarray, token_ids: Tensor, ids_TK: np.ndarray) -> bool:
    """Return whether a table, [token id, rank], gives the experts of each token."""
    rows_T = token_ids.flatten().cpu().numpy()
    if rows_T.shape != ids_TK.shape[:1] or rows_T.max(initial=0) >= len(table):
        return False
    return np.array_equal(np.sort(table[rows_T], axis=-1), np.sort(ids_TK, axis=-1))
