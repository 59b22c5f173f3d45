import dataclasses
import types

import pytest
import xarray as xr

from model.trace.facts.facts import facts_of
from model.trace.facts.sources import FactError, Sources
from model.trace.trace import Trace
from model.trace.training_log import Outcome
from tests.model.trace.facts.hand_made import hand_made

MATCHED = xr.Dataset({"kl": ("token", [0.1, 0.3])})
DRAWS = xr.Dataset({"kl": (("draw", "token"), [[0.0, 0.1], [0.1, 0.2], [0.4, 0.4], [0.1, 0.1]])})
COLLAPSE = {"A": Outcome(5.0, 0.625, 4, 32, 2.5), "B": Outcome(1.2, 0.15, 0, 32, 2.25)}


def rerouted() -> Trace:
    """The hand-made trace with another last token, which went to other experts."""
    trace = hand_made()
    ids, experts = (trace.data[name].values.copy() for name in ("token_id", "expert_id"))
    ids[3] += 1
    experts[3, 0] = [2, 3, 7]
    data = trace.data.assign(token_id=("token", ids), expert_id=(("token", "moe_layer", "rank"), experts))
    tokens = (*trace.tokens[:3], dataclasses.replace(trace.tokens[3], id=int(ids[3])))
    return dataclasses.replace(trace, data=data, tokens=tokens)


KNOCK_OUT = {"kind": "KnockOut", "layer": 1, "expert": 6}
CHANGED = dataclasses.replace(hand_made(), request={**hand_made().request, "interventions": [KNOCK_OUT]})
FACTS = facts_of(
    Sources(
        hand_made(),
        compared=rerouted(),
        experiment=types.SimpleNamespace(changed=CHANGED, matched=MATCHED, draws=DRAWS),
        collapse=COLLAPSE,
    )
)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("effect", (), 0.2),
        ("effect", (1, 6), 0.2),
        ("draws_below", (1, 6), 3),
        ("draws", (), 4),
        ("draws_below", (), 3),
        ("control_low", (), 0.05),
        ("control_high", (), 0.4),
        ("control_middle", (), 0.125),
        ("first_difference", (), 3),
        ("splits_before", (), 0),
        ("busiest_share", ("A",), 0.625),
        ("collapsed", ("A",), True),
        ("collapsed", ("B",), False),
        ("idle_share", ("A",), 0.125),
        ("final_loss", ("B",), 2.25),
    ],
)
def test_experiments(name: str, arguments: tuple, expected: float) -> None:
    assert FACTS[name](*arguments) == pytest.approx(expected)


def test_another_experiment_is_not_taken_for_the_knock_out_of_an_expert() -> None:
    with pytest.raises(FactError, match="knock out L1E5, and press Run"):
        FACTS["effect"](1, 5)


def test_equal_runs_have_no_split() -> None:
    facts = facts_of(Sources(hand_made(), compared=hand_made()))
    assert (facts["first_difference"](), facts["splits"](), facts["compared_decisions"]()) == (4, 0, 4)


def test_splits_are_counted_by_cause() -> None:
    trace = hand_made()
    experts = trace.data["expert_id"].values.copy()
    experts[2, 0] = [5, 6, 4]  # E4 instead of E7: 0.6 against 0.61, which bfloat16 rounds away
    experts[3, 0] = [0, 1, 7]
    data = trace.data.assign(expert_id=(("token", "moe_layer", "rank"), experts))
    other = dataclasses.replace(trace, data=data, origin={**trace.origin, "dtype": "bfloat16"})
    facts = facts_of(Sources(trace, compared=other))
    assert facts["splits"]() == 2
    assert (facts["splits_by_rounding"](), facts["splits_unexplained"](), facts["splits_that_follow"]()) == (1, 1, 0)
