from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.observe.routing import overview, path
from pages.observe.routing.tabs import DECISION, EXPERT, TOGETHER
from tests.pages.conftest import charts, said
from tests.pages.observe.routing.traces import (
    changed,
    imported,
    names,
)
from tests.traces import random_trace, routed

PAGE = page_path("routing")


@pytest.mark.parametrize("part", [DECISION, TOGETHER, EXPERT])
def test_imported_ids_are_shown_as_far_as_they_go(show: Callable[..., AppTest], part: str) -> None:
    app = show(imported(random_trace()), part=part)
    assert names(charts(app)[0]) == ["chosen (weights unknown)"]
    assert "does not hold affinities, the bias, the kept groups, weights" in said(app)


def test_interventions_are_said_and_hide_what_describes_the_trained_model(show: Callable[..., AppTest]) -> None:
    trace = random_trace(seed=9, num_prompt=5, num_new=9)
    free = path.losers(trace, 13)
    knocked = changed(trace, {"kind": "KnockOut", "layer": 1, "expert": 3})
    app = show(knocked, layer=1)
    assert "This run was changed: L1E3 knocked out." in said(app)
    assert "was the last one chosen" not in said(app)
    held = path.losers(knocked, 13)
    assert not any(mask.sel(moe_layer=1).any() for mask in held.values())
    assert all((held[name].sel(moe_layer=2) == free[name].sel(moe_layer=2)).all() for name in free)


def test_answer_names_the_experts_with_their_weights() -> None:
    trace = random_trace()
    at = trace.data.isel(token=3).sel(moe_layer=2)
    first, second = at["expert_id"].values.tolist()
    heavy, light = at["gate_weight"].values.tolist()
    words = overview.verdict(trace, 3, 2)
    assert words.endswith(f"went to **E{first} (weight {heavy:.3g}), E{second} (weight {light:.3g})**.")
    assert overview.verdict(imported(trace), 3, 2).endswith(f"went to **E{first}, E{second}**.")
    assert "does not hold" in overview.verdict(routed([0, 1], unknown=1), 1, 1)
