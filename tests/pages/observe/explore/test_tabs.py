import urllib.parse
from collections.abc import Callable

from streamlit.testing.v1 import AppTest

OpenApp = Callable[..., AppTest]


def why(app: AppTest) -> dict[str, str]:
    """What the link to a token's decision asks for."""
    (link,) = [link.proto for link in app.get("page_link") if link.proto.label == "Why these experts?"]
    assert link.page == "routing"
    return dict(urllib.parse.parse_qsl(link.query_string))


def test_link_asks_why_a_locked_token_took_its_experts(open_app: OpenApp) -> None:
    assert why(open_app(token="4", layer="2", expert="6")) == {"token": "4", "layer": "2", "expert": "6"}


def test_link_asks_for_the_newest_token_of_the_same_run(open_app: OpenApp) -> None:
    asked = why(open_app(prompt="A wolf", new="2"))
    assert asked == {"prompt": "A wolf", "new": "2", "token": "7", "layer": "1"}
