import importlib
from collections.abc import Callable, Iterator

import pytest
from streamlit.testing.v1 import AppTest

from pages.common import limits


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Reads the caps as the app does when it starts, with variables set."""
    with monkeypatch.context() as patch:

        def again(**variables: str) -> None:
            for name, value in variables.items():
                patch.setenv(name, value)
            importlib.reload(limits)

        yield again
    importlib.reload(limits)


CAPS = [name for name in vars(limits) if name.isupper() and name != "REFUSED"]


@pytest.mark.parametrize("name", CAPS)
def test_every_cap_is_changed_by_a_variable_of_its_name(read: Callable[..., None], name: str) -> None:
    usual = getattr(limits, name)
    read(**{f"MOE_LOUPE_{name}": str(2 * usual)})
    assert getattr(limits, name) == 2 * usual
    assert limits.REFUSED == []


@pytest.mark.parametrize("value", ["many", "-3", "0", "1.5", "1e3", " 7"])
def test_value_that_cannot_be_is_refused_in_one_line(read: Callable[..., None], value: str) -> None:
    read(MOE_LOUPE_NEW_TOKENS=value)
    (refused,) = limits.REFUSED
    assert refused == f"MOE_LOUPE_NEW_TOKENS is {value!r}; give a whole number from 1 on, or leave it out"


def test_variable_that_is_empty_changes_nothing(read: Callable[..., None]) -> None:
    read(MOE_LOUPE_NEW_TOKENS="")
    assert (limits.NEW_TOKENS, limits.REFUSED) == (256, [])


def test_fewer_new_tokens_than_usual_are_what_the_first_screen_offers(
    open_app: Callable[..., AppTest], read: Callable[..., None]
) -> None:
    read(MOE_LOUPE_NEW_TOKENS="16")
    app = open_app()
    assert not app.exception
    assert app.number_input(key="new").value == 16


def test_app_says_what_was_refused_in_place_of_its_pages(
    open_app: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REFUSED", ["MOE_LOUPE_NEW_TOKENS is 'many'; give a whole number"])
    app = open_app()
    assert not app.exception
    assert [error.value for error in app.error] == limits.REFUSED
    assert not app.button
