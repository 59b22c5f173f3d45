"""The tab of the importance map, on a page of its own."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.run.interventions import KnockOut
from model.run.request import Capture, RunRequest
from model.trace.file import save
from model.trace.trace import Trace
from pages.common import limits, models
from pages.intervene.counterfactual import importance_runs
from tests.models import random_model, tiny_config
from tests.pages.conftest import charts, said
from tests.traces import random_trace

if TYPE_CHECKING:
    from model.run.engine import Engine
    from model.run.importance import Importance

Open = Callable[..., AppTest]
NUM_TOKENS = 12


def tab() -> None:
    from pages.intervene.counterfactual import importance

    importance.show()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> "Engine":
    import torch

    from model.checkpoint.weights import save_model
    from model.run.engine import Engine

    folder = tmp_path_factory.mktemp("tiny")
    save_model(random_model(tiny_config(eos_id=None, num_layers=3)), folder, torch.float32)
    return Engine.load(folder, device="cpu")


@pytest.fixture
def open_tab(real: "Engine", engine: object, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens the tab on a trace; on one of the tiny model's where none is given."""
    monkeypatch.setattr(models, "load", lambda folder, job=None: real)

    def opened(trace: Trace | None = None, **request: Any) -> AppTest:
        if trace is None:
            ids = tuple(np.random.default_rng(0).integers(1, 320, NUM_TOKENS).tolist())
            trace = real.run(RunRequest(token_ids=ids, capture=Capture(frozenset({"router"})), **request))
        save(trace, recorded / "story.safetensors")
        return AppTest.from_function(tab, default_timeout=60).run()

    return opened


def start(app: AppTest) -> AppTest:
    return app.button(key="importance-start").click().run()


def test_nothing_runs_before_it_is_asked_for(open_tab: Open) -> None:
    app = open_tab()
    assert charts(app) == []
    assert not app.button(key="importance-start").disabled
    assert app.button(key="importance-stop").disabled


def test_expert_is_asked_for_where_the_experiment_above_does_not(open_tab: Open) -> None:
    app = start(open_tab())
    app.number_input(key="expert").set_value(3).run()
    assert not app.exception
    assert app.session_state["expert"] == 3
    app.session_state["what"] = "knock out experts"
    assert "expert" not in {asked.key for asked in app.run().number_input}


def test_map_table_and_points_say_the_same(open_tab: Open) -> None:
    app = start(open_tab())
    heat, points = charts(app)
    table = app.dataframe[0].value
    assert len(table) == 2 * 16
    assert table.iloc[:, 3].is_monotonic_increasing
    top = table.iloc[0]
    assert f"{top['expert']} is missed most" in said(app)
    assert f"n = {NUM_TOKENS} tokens" in said(app)
    assert "nats per token" in heat["data"][0]["colorbar"]["title"]["text"]
    assert heat["data"][0]["type"] == "heatmap"
    assert points["layout"]["yaxis"]["title"]["text"] == "change, nats per token"
    untouched = table[table["tokens rerouted"] == 0]
    assert len(untouched)
    assert (untouched["effect"] == "exactly 0: nothing changed").all()
    assert (untouched.iloc[:, 3:5] == 0).all().all()
    assert app.button(key="importance-start").disabled


def test_a_map_is_made_once_a_session(open_tab: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    app, asked = start(open_tab()), []
    monkeypatch.setattr(importance_runs, "execute", lambda one, place: asked.append(one))
    assert len(charts(app.run())) == 2
    assert asked == []


def test_chosen_expert_is_framed(open_tab: Open) -> None:
    app = start(open_tab())
    app.session_state["layer"], app.session_state["expert"] = 2, 3
    (frame,) = charts(app.run())[0]["layout"]["shapes"]
    assert (frame["y0"], frame["y1"]) == (0.5, 1.5)


def test_stopped_map_stays_and_may_start_again(open_tab: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from model.run import importance as module

    whole = module.importance
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 1)

    def stopping(engine: "Engine", ids: tuple[int, ...], cancel: Any) -> "Generator[Importance, None, None]":
        for seen in whole(engine, ids, cancel):
            if seen.done > 8:
                cancel.set()
            yield seen

    monkeypatch.setattr(module, "importance", stopping)
    app = start(open_tab())
    assert "stopped" in said(app)
    assert "of 32 experts were knocked out; the rest is blank" in said(app)
    assert 8 < len(app.dataframe[0].value) < 32
    assert app.button(key="importance-start").label == "Start again"
    monkeypatch.setattr(module, "importance", whole)
    assert len(start(app).dataframe[0].value) == 32
    assert "stopped" not in said(app)


def test_long_texts_are_cut_and_it_is_said(open_tab: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IMPORTANCE_TOKENS", 7)
    app = start(open_tab())
    assert "Only the first 7 of 12 tokens are used" in said(app)
    assert "n = 7 tokens" in said(app)


def test_changed_runs_are_mapped_without_their_change(open_tab: Open) -> None:
    app = open_tab(interventions=(KnockOut(1, 3),))
    assert "L1E3 knocked out" in said(app)
    assert "without the change" in said(app)


def test_other_weights_are_refused_in_one_line(open_tab: Open) -> None:
    app = start(open_tab(random_trace()))
    assert "not available here with the same weights" in app.error[0].value
    assert charts(app) == []
    assert app.button(key="importance-start").label == "Start again"


def test_one_token_is_refused(open_tab: Open, real: "Engine") -> None:
    app = start(open_tab(real.run(RunRequest(token_ids=(5,)))))
    assert app.error[0].value == "A prediction to compare needs at least 2 tokens."


def test_without_a_trace_says_what_to_do(engine: object, recorded: Path) -> None:
    (recorded / "story.safetensors").unlink()
    app = AppTest.from_function(tab, default_timeout=60).run()
    assert "Nothing was run yet" in said(app)
