"""The page on a real, tiny model: experiments are run for real."""

from collections.abc import Callable

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.run.engine import Engine
from model.run.interventions import KnockOut
from model.run.request import RunRequest
from model.trace.trace import Trace
from pages.common.menu import page_path
from pages.intervene.counterfactual import choices
from pages.intervene.counterfactual.choices import QUESTIONS
from tests.pages.conftest import charts, numbers, said
from tests.pages.intervene.counterfactual.conftest import press

PAGE = page_path("counterfactual")
Open = Callable[..., AppTest]


def test_nothing_is_run_before_it_is_asked_for(at: Open) -> None:
    app = at()
    assert not app.exception
    assert "Press Run" in said(app)
    assert QUESTIONS[choices.KNOCK_OUT] in said(app)
    assert charts(app) == []
    assert "ran" not in app.query_params


def test_layer_and_expert_come_from_the_address_and_the_run_is_real(at: Open, real: Engine, trace: Trace) -> None:
    expert = int(trace.data["expert_id"].sel(moe_layer=2)[5, 0])
    app = press(at(layer="2", expert=str(expert), token="5"))
    assert (app.selectbox(key="layer").value, app.number_input(key="expert").value) == (2, expert)
    assert "ran" in app.query_params
    (experiment,) = app.session_state["experiments"].values()
    assert experiment.interventions == (KnockOut(2, expert),)
    assert experiment.complete
    found = experiment.result
    ids = tuple(trace.data["token_id"].values.tolist())
    changed = real.run(RunRequest(token_ids=ids, interventions=(KnockOut(2, expert),)))
    assert np.array_equal(found.changed.data["expert_id"], changed.data["expert_id"])
    assert f"**{float(found.effect['kl'].mean()):.3g} nats**" in said(app)
    assert f"**L2E{expert} knocked out**" in said(app)
    assert "other experts of L2 were knocked out in turn" in said(app)
    drawn = charts(app)[0]["data"][0]["x"]
    assert numbers(drawn).tolist() == found.draws["kl"].mean("token").values.tolist()
    left, right = (frame.value for frame in app.dataframe if "log-probability (nat)" in frame.value)
    assert left["id"].tolist() == found.original.data["candidate_id"].values[5].tolist()
    assert right["id"].tolist() == found.changed.data["candidate_id"].values[5].tolist()


@pytest.mark.parametrize("what", [*QUESTIONS])
def test_every_experiment_runs(at: Open, what: str) -> None:
    app = at(what=what, ran="yes", floor="0.6")
    assert not app.exception
    assert not app.error
    assert QUESTIONS[what] in said(app)
    (experiment,) = app.session_state["experiments"].values()
    assert experiment.complete
    assert experiment.has_effect
    if what == choices.REPLAY:
        assert float(experiment.result.effect["kl"].max()) < 1e-6
        assert "There is no control" in said(app)
    else:
        assert experiment.result.draws.sizes["draw"] == len(experiment.result.control.draws) >= 3
