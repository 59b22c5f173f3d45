import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.observe.expert_load.tabs import BARS, DEVICES, GROUPS, LAYER, NUMBERS
from tests.pages.conftest import charts, said
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]
PAGE = page_path("expert_load")


def note(figure: dict[str, Any]) -> str:
    return figure["layout"]["annotations"][0]["text"]


@pytest.mark.parametrize(("view", "number"), [(LAYER, 2), (BARS, 2), (GROUPS, 2), (DEVICES, 2), (NUMBERS, 1)])
def test_every_tab_has_its_figure_and_its_numbers(show_at: OpenApp, view: str, number: int) -> None:
    app = show_at(view=view)
    assert len(charts(app)) == number
    assert len(app.dataframe) == 2


def test_the_busiest_expert_is_described_until_one_is_chosen(show_at: OpenApp) -> None:
    trace = random_trace()
    ids = np.tile(np.array([3, 1], np.int16), (10, 2, 1))
    app = show_at(dataclasses.replace(trace, data=trace.data.assign(expert_id=(("token", "moe_layer", "rank"), ids))))
    assert "**L1E1** took 10 of 10 tokens" in said(app)


@pytest.mark.parametrize("view", [LAYER, BARS, GROUPS, DEVICES])
def test_every_figure_can_be_clicked(show_at: OpenApp, view: str) -> None:
    app = show_at(view=view)
    assert all(chart.proto.selection_mode for chart in app.get("plotly_chart"))


def test_devices_carry_what_was_chosen(show_at: OpenApp) -> None:
    app = show_at(view=DEVICES)
    assert (app.selectbox(key="devices").value, app.selectbox(key="redundant").value) == (8, 8)
    assert note(charts(app)[1]) == "as numbered"
    assert "With experts placed by number on 8 devices" in said(app)
    app.selectbox(key="devices").set_value(2).run()
    app.selectbox(key="redundant").set_value(4).run()
    assert "on 2 devices" in said(app)
    assert "With 4 redundant experts" in said(app)
    app.selectbox(key="devices").set_value(8).run()  # which leaves no place for 4
    assert app.selectbox(key="redundant").value in (0, 8)


def test_devices_are_restored_by_the_address(show_at: OpenApp) -> None:
    app = show_at(view=DEVICES, devices="4", redundant="8")
    assert "on 4 devices" in said(app)
    assert "With 8 redundant experts" in said(app)
