"""What stands above the tabs."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import xarray as xr
from streamlit.testing.v1 import AppTest

from model.run.control import Control
from model.run.interventions import ForceExpert, KnockOut
from model.trace.trace import Trace
from pages.common.menu import page_path
from pages.intervene.counterfactual import overview
from pages.intervene.counterfactual.runs import Experiment
from tests.pages.intervene.counterfactual.conftest import press

PAGE = page_path("counterfactual")

Open = Callable[..., AppTest]


def test_the_strip_has_a_chip_for_every_token_and_colours_by_what_is_chosen(at: Open, trace: Trace) -> None:
    app = press(at(layer="1"))
    (strip,) = (element.proto.body for element in app.get("html") if "effects legend" in element.proto.body)
    assert strip.count('<span class="chip') == trace.num_tokens
    app.session_state["shade"] = overview.KL
    app.run()
    assert not app.exception
    (other,) = (element.proto.body for element in app.get("html") if "effects legend" in element.proto.body)
    assert ">0<span" in other  # KL is never below 0


def experiment(control: Control | None, draws: list[float] | None, matched: float = 2.0, **stated: Any) -> Experiment:
    """An experiment whose change moved the predictions by 2 nats, with the control's mean KLs."""

    def of(*kl: float) -> xr.Dataset:
        values = xr.DataArray([[value] for value in kl], dims=("draw", "token"))
        return xr.Dataset({"kl": values, "logprob_change": values * -0.5})

    changed = SimpleNamespace(interventions=[{"kind": "KnockOut", "layer": 3, "expert": 7}])
    outcome = SimpleNamespace(
        effect=of(2.0).isel(draw=0), draws=draws and of(*draws), matched=of(matched).isel(draw=0), control=control,
        changed=changed, named=stated.get("named", (KnockOut(3, 7),)),
    )  # fmt: skip
    return Experiment(None, (), outcome)  # type: ignore[arg-type]


BEGINNING = (
    "**L3E7 knocked out**: the predictions of the next token moved by **2 nats** per token (mean KL, n = 1 tokens); "
    "the text became less probable by 1 nats per token. "
)


def test_the_verdict_names_the_change_its_control_and_the_level() -> None:
    said = overview.sentences(experiment(Control((), 12, 12), [0.5, 1.0, 1.5]))
    assert said == BEGINNING + (
        "As a control, other experts of L3 were knocked out in turn (3 runs), each for 12 tokens, as many as this "
        "change reroutes: the predictions moved by 0.5 to 1.5 nats. **That is more than in any control run.** "
        "Of changes that matter as much as the control, 1 in 4 moves the predictions more than all control runs "
        "(p = 0.25)."
    )


def test_a_control_of_fewer_tokens_is_compared_with_the_change_for_as_many() -> None:
    said = overview.sentences(experiment(Control((), 12, 1, repeated=()), [0.5, 1.0, 1.5], matched=0.7))
    assert said == BEGINNING + (
        "This change reroutes 12 tokens, and too few other experts reroute as many. As a control, other experts of L3 "
        "were knocked out in turn (3 runs), each for 1 token: the predictions moved by 0.5 to 1.5 nats. Counted "
        "over as many tokens, this change moves the predictions by 0.7 nats. That is more than in 1 of the 3: no more "
        "and no less than chance explains."
    )


@pytest.mark.parametrize(
    ("control", "draws", "stated", "part"),
    [
        (Control((), 12, 12), [3.0, 4.0], {}, "**That is less than in any control run.**"),
        (Control((), 12, 12), [2.0, 1.0], {}, "That is more than in 1 of the 2: no more and no less than chance"),
        (Control((), 12, 12), [0.00001234, 4.0], {}, "moved by 0.0000123 to 4 nats"),
        (Control((), 12, 12), [2.0, 2.0], {}, "This change and all control runs moved the predictions equally."),
        (Control((), 9, 9), [1.0], {"named": (KnockOut(3, 7), KnockOut(3, 8))}, "other sets of 2 experts of L3"),
        (Control((), 9, 9), [1.0], {"named": (ForceExpert(3, 7),)}, "were forced in turn (1 runs), each for 9 tokens"),
        (
            Control((), share_beyond=0.25),
            [1.0, 2.0, 3.0],
            {"named": ()},
            "(25% of them differ",
        ),
        (Control(()), None, {}, "There is no control, because the change reroutes no token."),
        (Control((), 5), None, {}, "There is no control: no other experts can be changed in the same way."),
        (None, None, {}, "1 nats per token."),
    ],
)
def test_the_verdict_says_what_the_control_is(
    control: Control | None, draws: list[float] | None, stated: dict[str, Any], part: str
) -> None:
    assert part in overview.sentences(experiment(control, draws, **stated))
