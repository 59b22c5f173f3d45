"""Compare the routing of two traces: where it splits, and whether rounding explains the split.

The comparison first aligns tokens (`align.py`), and finds out whether the second trace only numbers the experts
differently (`renumbering.py`). A *split* is a layer in which a token has different experts in the two traces. A split
is

- a *near tie* if rounding to the less precise dtype explains all of it: in both traces, rounding could exchange every
  expert and group that only one of the traces selected (`rounding.py`). If one trace lacks the scores, the scores of
  the other trace decide;
- *following* if this token or an earlier token has a split in a lower layer, or if the text before the token differs;
- a *change* otherwise;
- *undecided* if neither trace holds the scores.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import xarray as xr

from model.trace import near_ties
from model.trace.agreement import FairAgreement, fair_agreement, jaccard
from model.trace.align import Alignment, align
from model.trace.consistency import Fault, faults
from model.trace.observed_rule import rule_of
from model.trace.renumbering import Renumbering, find_renumbering
from model.trace.rounding import Rounding, rule_for_margins
from model.trace.routing import by_expert, share_intervals
from model.trace.shift import Shift, find_shift
from model.trace.trace import Trace

SAME, NEAR_TIE, FOLLOWS, CHANGE, UNDECIDED, UNKNOWN = range(6)
VERDICTS = ("same", "near tie", "follows", "change", "undecided", "not recorded")
# Used in place of an unknown dtype.
_ROUGHEST = "bfloat16"


class CompareError(ValueError):
    """The two traces cannot be compared; the message says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """The differences between two traces. Experts are numbered as in `a`.

    A choice is the set of experts that one token selects in one layer.

    Attributes:
        a, b: the traces.
        alignment: the alignment of their tokens.
        choices: variables [pair, moe_layer]: number of `shared` (common) experts, `jaccard` index of both sets,
            `verdict` (index into `VERDICTS`), `margin` (the smaller of the two traces' margins, in units of biased
            score; a small margin alone is no near tie; NaN where experts follow from the token id) and
            `weight_difference` (largest difference of a gate weight of a common expert).
            Variable [pair]: `logprob_difference`, b minus a, in nats. A value that was not recorded is NaN.
        layers: variables [moe_layer]: number of compared `choices`, share of `equal` choices with its 95 % interval
            `equal_low` to `equal_high` (as if choices were independent), mean `jaccard`, mean and largest weight
            difference of common experts (`weight_mean`, `weight_difference`), and the largest `bias_difference`.
        renumbered: permutation of the experts of each layer in which `b` only numbers them differently.
        only_a: MoE layers that only `a` has.
        only_b: MoE layers that only `b` has.
        chance: agreement of two independent fair routers (`agreement.py`); None if a number of experts is not
            stated, or if the numbers of groups or of kept groups differ.
        dtype: the less precise dtype of the two, whose tolerance decides near ties.
        faults_a: contradictions within `a`.
        faults_b: contradictions within `b`.
        shift: shift of one recording by some tokens that explains the splits; None if there is none.
    """

    a: Trace
    b: Trace
    alignment: Alignment
    choices: xr.Dataset
    layers: xr.Dataset
    renumbered: dict[int, Renumbering]
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    chance: FairAgreement | None
    dtype: str
    faults_a: tuple[Fault, ...]
    faults_b: tuple[Fault, ...]
    shift: Shift | None

    @property
    def first_split(self) -> np.ndarray:
        """Return the index along `moe_layer` of each pair's first split, [pair]; -1 without a split."""
        split = self.is_split
        return np.where(split.any(1), split.argmax(1), -1)

    @property
    def is_split(self) -> np.ndarray:
        """Return a mask of choices that differ between the traces, [pair, moe_layer] bool."""
        verdicts = self.choices["verdict"].values
        return (verdicts != SAME) & (verdicts != UNKNOWN)

    def count(self, verdict: int) -> int:
        """Return the number of choices with this verdict."""
        return int((self.choices["verdict"] == verdict).sum())

    @property
    def num_compared(self) -> int:
        """Return the number of choices that both traces recorded."""
        return self.choices["verdict"].size - self.count(UNKNOWN)


def compare(a: Trace, b: Trace) -> Comparison:
    """Return the comparison of two traces.

    Raises:
        CompareError: a trace holds no routing, the models differ in their number of experts, or the traces share no
            token or no layer.
    """
    num_experts, layers = _num_experts(a, b), _common_layers(a, b)
    alignment = align(a, b)
    if not len(alignment.pairs):
        raise CompareError("no token of one trace is aligned with a token of the other; compare runs of the same text")
    one, other = (_at(trace, alignment.pairs[:, side], layers) for side, trace in enumerate((a, b)))
    dtype = rougher_dtype(a, b)
    rounding = Rounding(dtype, rule_for_margins(a, one), rule_for_margins(b, other))
    parts = [
        _compare_layer(_layer(one, index), _layer(other, index), num_experts, rounding) for index in range(len(layers))
    ]
    renumbered = {layer: part.renumbering for layer, part in zip(layers, parts, strict=True) if part.renumbering}
    by_table = _by_table(a, b, layers)
    choices = {name: np.stack([getattr(part, name) for part in parts], 1) for name in _Layer._fields[:3]}
    near = np.stack([part.near for part in parts], 1) & ~by_table if rounding.rule or rounding.other_rule else None
    choices["verdict"] = _verdicts(choices["jaccard"], near, _clean_before(alignment))
    choices["margin"] = _margins(one, other, rounding, by_table)
    only_a, only_b = (tuple(sorted(set(_layers(trace)) - set(layers))) for trace in (a, b))
    return Comparison(
        a=a,
        b=b,
        alignment=alignment,
        choices=xr.Dataset(
            {name: (("pair", "moe_layer"), values) for name, values in choices.items()}
            | {"logprob_difference": ("pair", _logprob_differences(one, other))},
            coords={"moe_layer": layers},
        ),
        layers=xr.Dataset(
            {name: ("moe_layer", values) for name, values in _by_layer(choices, parts).items()},
            coords={"moe_layer": layers},
        ),
        renumbered=renumbered,
        only_a=only_a,
        only_b=only_b,
        chance=_chance(a, b, num_experts),
        dtype=dtype,
        faults_a=tuple(faults(a)),
        faults_b=tuple(faults(b)),
        shift=find_shift(_ids(a, layers), _ids(b, layers), alignment.pairs),
    )


# --- common tokens, layers and experts -------------------------------------------------------------------------------


def _num_experts(a: Trace, b: Trace) -> int:
    """Return the number of routed experts; raise an error if the models have different numbers."""
    for name, trace in (("first", a), ("second", b)):
        if not trace.has("expert_id"):
            raise CompareError(f"the {name} trace does not hold the chosen experts; record it with --capture router")
    stated = {trace.shape.num_experts for trace in (a, b) if trace.shape.num_experts}
    if len(stated) > 1:
        numbers = " and ".join(str(trace.shape.num_experts) for trace in (a, b))
        raise CompareError(f"the models have {numbers} experts; they cannot be compared")
    return stated.pop() if stated else 1 + max(int(trace.data["expert_id"].max()) for trace in (a, b))


def _layers(trace: Trace) -> list[int]:
    return trace.data["moe_layer"].values.tolist()


def _common_layers(a: Trace, b: Trace) -> list[int]:
    common = [layer for layer in _layers(a) if layer in set(_layers(b))]
    if not common:
        raise CompareError("the traces have no MoE layer in common")
    return common


def _at(trace: Trace, tokens: np.ndarray, layers: list[int]) -> xr.Dataset:
    """Return the variables that are compared, for the tokens at indices `tokens` and for `layers`."""
    names = ["expert_id", "gate_weight", "router_logit", "router_score", "expert_bias", "group_score", "group_kept"]
    names += ["logprob"]
    data = trace.data[[name for name in names if trace.has(name)]]
    return data.sel(moe_layer=layers).isel(token=tokens)


def _ids(trace: Trace, layers: list[int]) -> np.ndarray:
    """Return the selected experts of all tokens in the common layers, [token, moe_layer, rank]."""
    return trace.data["expert_id"].sel(moe_layer=layers).values


def rougher_dtype(a: Trace, b: Trace) -> str:
    """Return the less precise of the two traces' dtypes; an unknown dtype counts as bfloat16."""
    stated = [str(trace.origin.get("dtype")) for trace in (a, b)]
    return max((dtype if dtype in near_ties.DTYPES else _ROUGHEST for dtype in stated), key=near_ties.tolerance)


def _clean_before(alignment: Alignment) -> np.ndarray:
    """Return a mask of pairs whose preceding text and tokens are the same in both traces, [pair] bool."""
    first = [min(only, default=np.inf) for only in (alignment.only_a, alignment.only_b)]
    return alignment.same_before & (alignment.pairs < np.array(first)).all(1)


# --- one layer -------------------------------------------------------------------------------------------------------


class _Layer(NamedTuple):
    """The agreement of the choices in one layer; arrays are [pair]."""

    shared: np.ndarray  # number of common experts
    jaccard: np.ndarray  # Jaccard index; NaN if an expert is unknown
    weight_difference: np.ndarray  # the largest of a common expert; NaN without one or without recorded weights
    near: np.ndarray  # whether rounding explains the difference; False without scores
    weight_mean: float  # mean weight difference over all common experts of the layer
    bias_difference: float
    renumbering: Renumbering | None


def _layer(at: xr.Dataset, index: int) -> dict[str, np.ndarray]:
    """Return one layer's recorded variables as plain arrays; xarray is too slow for hundreds of layers one by one."""
    return {
        str(name): values.values[index] if values.dims[0] == "moe_layer" else values.values[:, index]
        for name, values in at.data_vars.items()
        if "moe_layer" in values.dims
    }


def _compare_layer(
    one: dict[str, np.ndarray], other: dict[str, np.ndarray], num_experts: int, rounding: Rounding
) -> _Layer:
    """Return the agreement in one layer, after renumbering its experts if needed."""
    ids_a, ids_b = one["expert_id"], other["expert_id"]
    selected_a, selected_b = (by_expert(ids, np.array(True), num_experts, False) for ids in (ids_a, ids_b))
    known = (ids_a >= 0).all(-1) & (ids_b >= 0).all(-1)
    scores = [at["router_score"][known] if "router_score" in at else None for at in (one, other)]
    renumbering = find_renumbering(selected_a[known], selected_b[known], *scores)
    order = np.arange(num_experts) if renumbering is None else renumbering.order
    both = selected_a & selected_b[:, order]
    shared = both.sum(-1)
    gap = np.full(both.shape, np.nan, np.float32)
    if "gate_weight" in one and "gate_weight" in other:
        weights_a, weights_b = (by_expert(at["expert_id"], at["gate_weight"], num_experts, 0) for at in (one, other))
        gap[both] = np.abs(weights_a - weights_b[:, order])[both]
    measured = np.isfinite(gap)
    biases = [at.get("expert_bias") for at in (one, other)]
    return _Layer(
        shared=shared,
        jaccard=np.where(known, jaccard(shared, ids_a.shape[-1], ids_b.shape[-1]), np.nan).astype(np.float32),
        weight_difference=np.where(measured.any(-1), np.where(measured, gap, 0).max(-1), np.nan).astype(np.float32),
        near=rounding.explains(one, other, order),
        weight_mean=float(gap[measured].mean()) if measured.any() else np.nan,
        bias_difference=np.nan
        if biases[0] is None or biases[1] is None
        else np.abs(biases[0] - biases[1][order]).max(),
        renumbering=renumbering,
    )


# --- verdicts --------------------------------------------------------------------------------------------------------


def _margins(one: xr.Dataset, other: xr.Dataset, rounding: Rounding, by_table: np.ndarray) -> np.ndarray:
    """Return the smaller of the two traces' absolute margins, [pair, moe_layer]; NaN if neither trace has one.

    The unit is a biased score: if a group's score is the sum of two scores, half the margin of the groups is used.
    """
    margins = [np.full((one.sizes["token"], len(by_table)), np.nan, np.float32)]
    for at, rule in ((one, rounding.rule), (other, rounding.other_rule)):
        if rule is not None:
            per_score = np.abs(near_ties.group_margin(at, rule).values) / rule.scores_per_group
            margins.append(np.fmin(np.abs(near_ties.place_margin(at, rule).values), per_score))
    return np.where(by_table, np.float32(np.nan), np.fmin.reduce(margins).astype(np.float32))


def _by_table(a: Trace, b: Trace, layers: list[int]) -> np.ndarray:
    """Return a mask of the layers whose experts follow from the token id in either model, [moe_layer]."""
    tables = {layer for trace in (a, b) if trace.router for layer in trace.router.table_layers}
    return np.isin(layers, list(tables))


def _verdicts(index: np.ndarray, near: np.ndarray | None, clean: np.ndarray) -> np.ndarray:
    """Return the verdict on each choice, [pair, moe_layer] uint8."""
    split = index < 1
    reached = np.maximum.accumulate(split, axis=0)  # a split in this token or in an earlier one
    earlier = np.zeros_like(split)
    earlier[:, 1:] = np.maximum.accumulate(reached, axis=1)[:, :-1]
    verdicts = np.where(split, CHANGE if near is not None else UNDECIDED, SAME).astype(np.uint8)
    verdicts[split & (earlier | ~clean[:, None])] = FOLLOWS
    if near is not None:
        verdicts[split & near] = NEAR_TIE
    verdicts[np.isnan(index)] = UNKNOWN
    return verdicts


def _logprob_differences(one: xr.Dataset, other: xr.Dataset) -> np.ndarray:
    if "logprob" in one and "logprob" in other:
        return other["logprob"].values - one["logprob"].values
    return np.full(one.sizes["token"], np.nan, np.float32)


def _by_layer(choices: dict[str, np.ndarray], parts: list[_Layer]) -> dict[str, np.ndarray]:
    """Return the statistics of each layer over all pairs, each [moe_layer]."""
    index, known = choices["jaccard"], np.isfinite(choices["jaccard"])
    number, largest = known.sum(0), choices["weight_difference"]
    equal = (index == 1).sum(0)
    low, high = share_intervals(equal, number)
    with np.errstate(invalid="ignore"):
        return {
            "choices": number,
            "equal": equal / number,
            "equal_low": low,
            "equal_high": high,
            "jaccard": np.where(known, index, 0).sum(0) / number,
            "weight_mean": np.array([part.weight_mean for part in parts]),
            "weight_difference": np.where(np.isfinite(largest).any(0), np.fmax.reduce(largest), np.nan),
            "bias_difference": np.array([part.bias_difference for part in parts], float),
        }


def _chance(a: Trace, b: Trace, num_experts: int) -> FairAgreement | None:
    """Return the agreement of two routers that select at random (`agreement.py`).

    None if a trace does not state its number of experts, if the traces have different numbers of groups or of kept
    groups, or if the kept groups hold fewer experts than a token selects.
    """
    if not all("n_routed_experts" in trace.config or trace.router for trace in (a, b)):
        return None
    rules = [rule_of(trace) for trace in (a, b)]
    try:
        ((groups, kept),) = {(rule.num_groups, rule.num_kept_groups) for rule in rules}
        return fair_agreement(num_experts, *(rule.top_k for rule in rules), groups, kept)
    except ValueError:
        return None
