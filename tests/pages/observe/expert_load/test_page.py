import dataclasses
import time
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.observe.expert_load.tabs import LAYER
from tests.pages.conftest import charts, said
from tests.pages.fakes import FakeEngine
from tests.pages.observe.expert_load.test_tabs import note
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]
PAGE = page_path("expert_load")


def test_first_screen_of_the_recorded_run(show_at: OpenApp, engine: FakeEngine) -> None:
    app = show_at()
    heatmap, bars = charts(app)
    assert note(heatmap).startswith("n = 14 tokens; chance alone:")
    assert note(bars).startswith("n = 14 tokens")
    assert "n = 14 tokens" in said(app)
    assert ":gray-badge[recorded]" in said(app)
    assert "of 2 layers the busiest expert carries more than chance explains" in said(app)
    assert "The least even layers (MaxVio: " in said(app)
    assert engine.requests == []


@pytest.mark.parametrize(
    ("address", "number"),
    [({"tokens": "prompt"}, 5), ({"tokens": "generated"}, 9), ({"special": "false"}, 13)],
    ids=["prompt", "generated", "no special tokens"],
)
def test_switches_change_what_is_counted_everywhere(show_at: OpenApp, address: dict[str, str], number: int) -> None:
    app = show_at(**address)
    for figure in charts(app):
        assert note(figure).startswith(f"n = {number} tokens")
    assert f"n = {number} tokens" in said(app)
    table = app.dataframe[0].value
    assert table["tokens"].sum() == 2 * 2 * number


def test_switches_can_be_used(show_at: OpenApp) -> None:
    app = show_at()
    app.toggle(key="special").set_value(False).run()
    assert note(charts(app)[0]).startswith("n = 13 tokens")


def test_no_token_of_the_kind_is_said_kindly(show_at: OpenApp) -> None:
    app = show_at(random_trace(num_new=0), tokens="generated")
    assert charts(app) == []
    assert "No token of this run is of that kind" in app.info[0].value


def test_link_restores_the_view(show_at: OpenApp) -> None:
    app = show_at(layer="2", expert="6", view=LAYER)
    assert (app.selectbox(key="layer").value, app.number_input(key="expert").value) == (2, 6)
    assert "**L2E6** took" in said(app)
    assert charts(app)[1]["layout"]["annotations"][-1]["text"] == "E6"


def test_trace_without_the_chosen_experts(show_at: OpenApp) -> None:
    trace = random_trace()
    app = show_at(dataclasses.replace(trace, data=trace.data.drop_vars("expert_id")))
    assert charts(app) == []
    assert "--capture router" in app.info[0].value


def test_trace_that_does_not_say_how_many_experts_there_are(show_at: OpenApp) -> None:
    trace = random_trace()
    data = trace.data[["token_id", "expert_id"]]
    app = show_at(dataclasses.replace(trace, data=data, model={"name": "unknown", "config": {}}))
    assert charts(app) == []
    assert "does not say how many experts" in app.info[0].value


def test_trace_whose_configuration_is_null_is_shown(show_at: OpenApp) -> None:
    app = show_at(dataclasses.replace(random_trace(), model={"name": "x", "config": None}))
    assert note(charts(app)[0]).startswith("n = 10 tokens; chance alone:")


def test_trace_that_knows_no_experts_of_its_last_tokens(show_at: OpenApp) -> None:
    trace = random_trace()
    ids = trace.data["expert_id"].values.copy()
    ids[-2:] = -1
    data = trace.data[["token_id"]].assign(expert_id=(("token", "moe_layer", "rank"), ids))
    data = data.assign_coords(moe_layer=[1, 2])
    app = show_at(dataclasses.replace(trace, data=data, origin={"kind": "imported"}))
    assert note(charts(app)[0]).startswith("n = 8 tokens")
    assert "Not counted: 2 tokens" in said(app)


def test_changed_run_says_what_was_changed(show_at: OpenApp) -> None:
    request = {"interventions": [{"kind": "KnockOut", "layer": 1, "expert": 3}]}
    app = show_at(dataclasses.replace(random_trace(), request=request))
    assert "This run was changed" in app.info[0].value


def test_model_of_58_layers_and_256_experts_is_shown_in_a_blink(show_at: OpenApp) -> None:
    big = random_trace(
        num_prompt=300, num_new=20, num_layers=59, num_experts=256, num_groups=8, num_kept=4, top_k=8, num_heads=1
    )
    kept = ["token_id", "logprob", "expert_id", "gate_weight"]
    app = show_at(dataclasses.replace(big, data=big.data[kept], text=big.text))
    assert charts(app)
    began = time.process_time()
    app.run()
    assert time.process_time() - began < 2  # about 0.3
