"""A question answered on a tiny model: what is fed, what is written, what the control is, and how it is stopped."""

import threading

import numpy as np
import pytest

from model.network.edit import EditError
from model.run.counterfactual import Counterfactual, Question, Stage
from model.run.interventions import BiasOff, KnockOut, Replay
from model.run.request import Capture, RequestError, RunRequest
from model.trace.trace import Trace
from tests.model.run.test_routing_edit import engine_of, run

SEEN = Capture(frozenset({"router"}))


def original(*changes: KnockOut, new: int = 8) -> Trace:
    ids = tuple(range(3, 23))
    return run(
        engine_of("V3"), RunRequest(token_ids=ids, max_new_tokens=new, temperature=0.8, seed=4, capture=SEEN), *changes
    )


def busiest(trace: Trace, layer: int) -> int:
    return int(np.bincount(trace.data["expert_id"].sel(moe_layer=layer).values.ravel()).argmax())


def answer(question: Question, stop_at: int | None = None) -> tuple[Counterfactual, list[Stage]]:
    found, cancel, stages = Counterfactual(question), threading.Event(), []
    for stage in found.run(engine_of("V3"), cancel):
        stages.append(stage)
        if len(stages) == stop_at:
            cancel.set()
    return found, stages


def test_both_are_fed_the_originals_tokens_and_the_changed_one_writes_on_by_itself() -> None:
    trace = original()
    change = KnockOut(1, busiest(trace, 1))
    found, stages = answer(Question.about(trace, (change,)))
    ids = trace.data["token_id"].values.tolist()
    assert found.original is not None
    assert found.changed is not None
    assert found.written is not None
    for fed in (found.original, found.changed):
        assert fed.data["token_id"].values.tolist() == ids
        assert not fed.has("logits")
    assert np.array_equal(found.original.data["expert_id"], trace.data["expert_id"])
    assert change.expert not in found.changed.data["expert_id"].sel(moe_layer=1)
    alone = original(change)
    assert found.written.data["token_id"].values.tolist() == alone.data["token_id"].values.tolist()
    assert found.effect is not None
    assert found.draws is not None
    assert (found.effect["kl"] > 0).any()
    assert found.draws["kl"].dims == ("draw", "token")
    assert found.control is not None
    assert 9 <= found.draws.sizes["draw"] == len(found.control.draws) <= 15
    assert found.matched is not None
    assert (found.matched is found.effect) == (found.control.repeated is None)
    shares = [stage.share for stage in stages]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] <= 1


def test_a_change_that_changes_nothing_has_no_effect_at_all() -> None:
    trace = original(new=0)
    fed = run(engine_of("V3"), Question.about(trace, ()).fed)
    found, _ = answer(Question.about(trace, (Replay.of(fed),)))
    assert found.effect is not None
    assert found.control is not None
    assert found.effect["kl"].values.tolist() == [0.0] * 20
    assert found.effect["jaccard"].values.tolist() == [1.0, 1.0]
    assert (found.control.draws, found.draws, found.written) == ((), None, None)


def test_a_text_without_generated_tokens_is_only_fed() -> None:
    trace = original(new=0)
    assert Question.about(trace, (BiasOff(),)).written is None
    assert Question.about(original(), (BiasOff(),), max_new_tokens=0).written is None
    some = Question.about(original(), (BiasOff(),), max_new_tokens=5).written
    assert some is not None
    assert some.max_new_tokens == 5


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 12, 17])
def test_what_was_done_when_it_is_stopped_stays(stop_at: int) -> None:
    trace = original()
    question = Question.about(trace, (KnockOut(1, busiest(trace, 1)),))
    found, stages = answer(question, stop_at)
    assert len(stages) == stop_at
    assert (found.original is None) == (stop_at == 1)
    assert (found.effect is None) == (stop_at <= 2)
    assert (found.draws is None) == (stop_at < 17)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (KnockOut(1, 99), RequestError, "expert 99 does not exist"),
        (KnockOut(0, 1), RequestError, "layer 0 has no router"),
    ],
)
def test_an_impossible_change_is_refused_before_anything_runs(
    change: KnockOut, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        answer(Question.about(original(), (change,)))
    with pytest.raises(EditError, match="experts may be all that is left"):
        answer(Question.about(original(), tuple(KnockOut(1, expert) for expert in range(13))))
