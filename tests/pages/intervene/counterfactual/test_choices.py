"""The widgets of an experiment, and what they refuse."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.file import dumps
from model.trace.trace import Trace
from pages.common.menu import page_path
from pages.intervene.counterfactual import choices

PAGE = page_path("counterfactual")

Open = Callable[..., AppTest]


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


@pytest.mark.parametrize(
    "address",
    [
        {"what": "mood"},
        {"expert": "x"},
        {"gate": "0"},
        {"group": "-3"},
        {"k": "1e9"},
        {"what": "replay a routing", "source": "this run's own"},
    ],
)
def test_address_that_asks_for_what_is_not_there(at: Open, address: dict[str, str]) -> None:
    assert not at(**address).exception


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
