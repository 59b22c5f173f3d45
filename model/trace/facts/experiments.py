"""Facts about experiments: a changed routing with its control, two compared runs, and runs of the Collapse page."""

import numpy as np

from model.trace import comparison, effects
from model.trace.align import align
from model.trace.facts.sources import FactError, Sources
from model.trace.training_log import Outcome

_RUN = "no experiment on this text yet; press Run on the Counterfactual page"


def effect(sources: Sources, layer: int | None = None, expert: int | None = None) -> float:
    """Return the effect of knocking out an expert: mean KL divergence of the next-token distributions, in nats.

    Without an expert, of the last experiment, whatever it changed.

    Raises:
        FactError: the last experiment was another one.
    """
    experiment = sources.experiment
    if experiment is None or experiment.matched is None or experiment.changed is None:
        raise FactError(_RUN)
    if layer is not None:
        named = [(change.get("layer"), change.get("expert")) for change in experiment.changed.interventions]
        kinds = {change.get("kind") for change in experiment.changed.interventions}
        if named != [(layer, expert)] or kinds != {"KnockOut"}:
            raise FactError(f"the last experiment was another one; knock out L{layer}E{expert}, and press Run")
    return float(experiment.matched["kl"].mean())


def draws(sources: Sources) -> int:
    """Return the number of draws of the control: the same change made to random experts."""
    return len(_draws(sources))


def draws_below(sources: Sources, layer: int | None = None, expert: int | None = None) -> int:
    """Return the number of draws of the control with a smaller effect than the change; arguments as for `effect`."""
    return effects.standing(effect(sources, layer, expert), _draws(sources)).below


def control_low(sources: Sources) -> float:
    """Return the smallest effect among the draws of the control, in nats."""
    return float(_draws(sources).min())


def control_high(sources: Sources) -> float:
    """Return the largest effect among the draws of the control, in nats."""
    return float(_draws(sources).max())


def control_middle(sources: Sources) -> float:
    """Return the median effect of the draws of the control, in nats."""
    return float(np.median(_draws(sources)))


def first_difference(sources: Sources) -> int:
    """Return the first token of the run that is not the same in run B; the number of tokens if none differs."""
    b = _compared(sources).b
    equal = [one.id == other.id for one, other in zip(sources.trace.tokens, b.tokens, strict=False)]
    return equal.index(False) if False in equal else len(equal)


def splits(sources: Sources) -> int:
    """Return the number of decisions that differ between the run and run B, among aligned tokens."""
    return int(_compared(sources).is_split.sum())


def splits_before(sources: Sources) -> int:
    """Return the number of decisions that differ for tokens before `first_difference`."""
    pairs = align(sources.trace, _compared(sources).b).pairs
    return int(_compared(sources).is_split[pairs[:, 0] < first_difference(sources)].sum())


def compared_decisions(sources: Sources) -> int:
    """Return the number of decisions that both runs recorded, among aligned tokens."""
    return _compared(sources).num_compared


def splits_by_rounding(sources: Sources) -> int:
    """Return the number of decisions that differ because rounding decided a near tie."""
    return _compared(sources).count(comparison.NEAR_TIE)


def splits_that_follow(sources: Sources) -> int:
    """Return the number of decisions that differ because an earlier one did."""
    return _compared(sources).count(comparison.FOLLOWS)


def splits_unexplained(sources: Sources) -> int:
    """Return the number of decisions that differ, although neither rounding nor an earlier difference explains it."""
    return _compared(sources).count(comparison.CHANGE)


def busiest_share(sources: Sources, side: str) -> float:
    """Return the share of the tokens that select the busiest expert at the end of a run of the Collapse page."""
    return _outcome(sources, side).share


def collapsed(sources: Sources, side: str) -> bool:
    """Return whether one expert got more than half of the tokens at the end of a run of the Collapse page."""
    return _outcome(sources, side).collapsed


def idle_share(sources: Sources, side: str) -> float:
    """Return the share of experts without a token at the end of a run of the Collapse page."""
    outcome = _outcome(sources, side)
    return outcome.idle / outcome.num_experts


def final_loss(sources: Sources, side: str) -> float:
    """Return the loss at the end of a run of the Collapse page, in nats per byte."""
    return _outcome(sources, side).loss


def _draws(sources: Sources) -> np.ndarray:
    found = None if sources.experiment is None else sources.experiment.draws
    if found is None:
        raise FactError(_RUN)
    return effects.means(found)["kl"].values


def _compared(sources: Sources) -> comparison.Comparison:
    return sources.comparison


def _outcome(sources: Sources, side: str) -> Outcome:
    if side not in sources.collapse:
        raise FactError(f"no run {side} yet; press Train {side} on the Collapse page")
    return sources.collapse[side]
