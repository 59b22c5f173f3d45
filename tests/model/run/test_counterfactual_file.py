"""A finished counterfactual comes back from its file as it was, apart from what no page shows."""

import pytest
import xarray as xr

from model.run import counterfactual_file
from model.run.counterfactual import Counterfactual, Question
from model.run.interventions import KnockOut
from model.run.request import RunRequest
from tests.model.run.test_counterfactual import answer, busiest, original


def finished(new: int) -> Counterfactual:
    trace = original(new=new)
    result, _ = answer(Question.about(trace, (KnockOut(1, busiest(trace, 1)),)))
    return result


@pytest.mark.parametrize("new", [0, 3])
def test_round_trip(new: int) -> None:
    result = finished(new)
    back = counterfactual_file.loads(counterfactual_file.dumps(result))
    assert back.question == result.question
    for name in counterfactual_file.EFFECTS:
        xr.testing.assert_identical(getattr(back, name), getattr(result, name))
    for name in counterfactual_file.TRACES:
        ours, theirs = getattr(back, name), getattr(result, name)
        assert (ours is None) == (theirs is None) == (name == "written" and not new)
        if ours is not None:
            kept = [variable for variable in counterfactual_file.VARIABLES if theirs.has(variable)]
            xr.testing.assert_identical(ours.data, theirs.data[kept])
            assert (ours.tokens, ours.text) == (theirs.tokens, theirs.text)
            assert RunRequest.from_json(ours.request) == RunRequest.from_json(theirs.request)
    ours, theirs = back.control, result.control
    assert ours is not None
    assert theirs is not None
    assert len(ours.draws) == len(theirs.draws) > 0
    assert (ours.num_rerouted, ours.num_matched) == (theirs.num_rerouted, theirs.num_matched)
    assert (ours.repeated is None) == (theirs.repeated is None)
