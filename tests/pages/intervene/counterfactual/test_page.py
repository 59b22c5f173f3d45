"""The page on a real, tiny model: experiments are run for real."""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from model.checkpoint.weights import save_model
from model.run.engine import Engine
from model.run.request import Capture, KnockOut, RunRequest
from model.trace.file import dumps
from model.trace.trace import Token, Trace
from model.train.data.bpe import train_vocabulary
from pages.common import limits, models
from pages.common.menu import page_path
from pages.intervene.counterfactual import choices, runs, tables, tabs
from pages.intervene.counterfactual.choices import QUESTIONS
from tests.models import random_model, tiny_config
from tests.pages.conftest import charts, numbers, said

PAGE = page_path("counterfactual")
Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder: Path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(random_model(tiny_config(num_layers=3, eos_id=None)), folder, torch.float32)
    train_vocabulary(["The wolf saw the moon.\n"] * 20, 320, show_progress=False).save(str(folder / "tokenizer.json"))
    return Engine.load(folder, device="cpu")


@pytest.fixture(scope="module")
def trace(real: Engine) -> Trace:
    return real.run(RunRequest(prompt="The wolf saw the moon.", max_new_tokens=8, temperature=0.7, capture=Capture()))


@pytest.fixture
def at(
    show_at: Open, recorded: Path, trace: Trace, real: Engine, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AppTest]:
    """Opens the page at an address, with the real model's run on show."""
    monkeypatch.setattr(models, "load", lambda folder: real)
    monkeypatch.setattr(models, "available", lambda: {"tiny": real.folder})

    def opened(**address: str) -> AppTest:
        return show_at(trace, **address)

    return opened


def press(app: AppTest) -> AppTest:
    app.button(key="run-experiment").click().run()
    assert not app.exception
    return app


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
    found = experiment.found
    ids = tuple(trace.data["token_id"].values.tolist())
    changed = real.run(RunRequest(token_ids=ids, interventions=(KnockOut(2, expert),)))
    assert np.array_equal(found.changed.data["expert_id"], changed.data["expert_id"])
    assert f"**{float(found.effect['kl'].mean()):.3g} nats**" in said(app)
    assert "random experts of equal load" in said(app)
    drawn = charts(app)[0]["data"][0]["x"]
    assert numbers(drawn).tolist() == found.draws["kl"].mean("token").values.tolist()
    left, right = (frame.value for frame in app.dataframe if "log-probability (nat)" in frame.value)
    assert left["id"].tolist() == found.original.data["candidate_id"].values[5].tolist()
    assert right["id"].tolist() == found.changed.data["candidate_id"].values[5].tolist()


def test_a_link_runs_it_again_and_shows_the_same(at: Open) -> None:
    asked = {"what": "score threshold", "floor": "0.6", "layer": "1", "token": "3"}
    first = press(at(**asked))
    again = at(**asked, ran="yes")
    assert not again.exception
    assert said(again) == said(first)
    assert charts(again) == charts(first)


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
        assert float(experiment.found.effect["kl"].max()) < 1e-6
        assert "There is no control" in said(app)
    else:
        assert experiment.found.draws.sizes["draw"] == 8


def test_another_choice_hides_the_result_and_coming_back_shows_it_without_a_run(at: Open) -> None:
    app = press(at(layer="1", expert="3"))
    first = app.session_state["experiments"].copy()
    app.number_input(key="expert").set_value(4).run()
    assert "Press Run" in said(app)
    assert "ran" not in app.query_params
    app.number_input(key="expert").set_value(3).run()
    assert "nats**" in said(app)
    assert app.session_state["experiments"] == first


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({"also": "3, x"}, "is not a list of experts such as 3, 21"),
        ({"also": "99"}, "Expert 99 does not exist; experts are 0 to 15"),
        ({"also": ",".join(map(str, range(13)))}, "experts may be all that is left to choose 4 from"),
        ({"what": "other k", "k": "12"}, "experts may be all that is left to choose 12 from"),
        ({"what": "force experts", "also": "0,4,8,12"}, "more experts are forced than the router may select"),
        ({"what": "replay a routing", "source": "a trace file"}, "Choose the trace file"),
    ],
)
def test_impossible_changes_are_refused_in_one_line(at: Open, address: dict[str, str], message: str) -> None:
    app = at(layer="1", expert="1", ran="yes", **address)
    assert not app.exception
    (error,) = app.error
    assert message in error.value
    assert "\n" not in error.value


@pytest.mark.parametrize("address", [{"what": "mood"}, {"expert": "x"}, {"gate": "0"}, {"group": "-3"}, {"k": "1e9"}])
def test_address_that_asks_for_what_is_not_there(at: Open, address: dict[str, str]) -> None:
    assert not at(**address).exception


def test_a_text_too_long_to_compare_is_refused(at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXPERIMENT_LOGITS", 320 * 10)
    assert "is too long to compare; at most 10 are" in press(at()).error[0].value


def test_a_trace_of_other_weights_is_refused(at: Open, show_at: Open, trace: Trace) -> None:
    other = dataclasses.replace(trace, model=dict(trace.model) | {"weights_sha256": "0" * 64})
    assert "is not at hand here with the same weights" in press(show_at(other)).error[0].value


def test_stop_keeps_what_was_done(at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from model.run import counterfactual

    run = counterfactual.Counterfactual.run

    def stopped(self: counterfactual.Counterfactual, engine: Engine, cancel: threading.Event):
        for stage in run(self, engine, cancel):
            if "control 3" in stage.doing:
                cancel.set()
                cancel.set()  # again is harmless
            yield stage

    monkeypatch.setattr(counterfactual.Counterfactual, "run", stopped)
    app = press(at())
    assert "Stopped: 2 of 8 draws of the control were run" in said(app)
    assert "nats**" in said(app)


def test_routing_of_a_file_is_replayed(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    class Uploaded:
        def __init__(self, content: bytes) -> None:
            self.getvalue = lambda: content

    class State(dict): ...

    for content, expected in ((dumps(trace), choices.Replay.of(trace)), (b"x", "not a MoE Loupe")):
        state = State({"replay-file": Uploaded(content)})
        monkeypatch.setattr(choices.st, "session_state", state)
        choices._read()
        assert state["replay"] == expected or str(expected) in state["replay"]


def test_one_session_does_not_see_anothers_experiments(at: Open) -> None:
    press(at(layer="1", expert="3"))
    other = at(layer="1", expert="3")
    assert "Press Run" in said(other)
    assert runs.RAN not in other.query_params


def test_the_strip_has_a_chip_for_every_token_and_colours_by_what_is_chosen(at: Open, trace: Trace) -> None:
    app = press(at(layer="1"))
    (strip,) = (element.proto.body for element in app.get("html") if "effects legend" in element.proto.body)
    assert strip.count('<span class="chip') == trace.num_tokens
    app.session_state["shade"] = tabs.KL
    app.run()
    assert not app.exception
    (other,) = (element.proto.body for element in app.get("html") if "effects legend" in element.proto.body)
    assert ">0<span" in other  # KL is never below 0


def test_texts_part_where_they_differ_and_no_character_is_divided(trace: Trace) -> None:
    tokens = [Token(0, "<s>", 0, 0, False), Token(1, "a", 0, 1, False)]
    tokens += [Token(2, "é1", 1, 2, True), Token(3, "é2", 2, 3, True)]
    one = dataclasses.replace(
        trace, data=trace.data[["token_id"]].isel(token=slice(4)).assign(token_id=("token", np.arange(4, dtype="i4"))),
        tokens=tuple(tokens), text="aé".encode(),
    )  # fmt: skip
    assert tables.parts(one, one, 3) == ("a", "", "é")
    assert tables.parts(one, one, None) == ("a", "é", "")
