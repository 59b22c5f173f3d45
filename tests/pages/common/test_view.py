import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from model.trace import file
from model.trace import load as loads

OpenApp = Callable[..., AppTest]


def lens(app: AppTest) -> dict[str, Any]:
    """The settings that the lens is handed."""
    (message,) = [element.proto.bytes for element in app.get("bidi_component") if element.proto.bytes]
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length])


def test_link_restores_how_the_lens_looks(open_app: OpenApp) -> None:
    app = open_app(colour="surprisal", map="layers", layer="2")
    assert {"colour": "surprisal", "map": "layers", "layer": 2}.items() <= lens(app)["view"].items()
    assert {"colour", "map"} <= set(app.query_params)


def test_address_says_how_the_lens_looks(open_app: OpenApp) -> None:
    app = open_app(colour="![x](y)")
    assert lens(app)["view"]["colour"] == "expert"
    assert "colour" not in app.query_params
    app.session_state["colour"] = "group"
    app.run()
    assert (lens(app)["view"]["colour"], app.query_params["colour"]) == ("group", "group")
    app.session_state["colour"] = "expert"
    app.run()
    assert "colour" not in app.query_params


def test_lens_is_handed_what_chance_alone_gives_the_finished_run(open_app: OpenApp, recorded: Path) -> None:
    band = loads.measure(file.load(recorded / "story.safetensors")).band
    assert band is not None
    assert lens(open_app())["band"] == [band.low, band.high]


def test_lens_says_how_to_read_it(open_app: OpenApp) -> None:
    (said_of_it,) = [each for each in open_app().expander if each.label == "How to read this"]
    assert not said_of_it.proto.expanded
    words = " ".join(each.value for each in said_of_it.markdown)
    assert all(part in words for part in ("Strip", "Map", "Attention", "Load", "Keys", "range of chance"))
