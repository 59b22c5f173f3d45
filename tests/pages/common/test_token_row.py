from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path

PAGE = page_path("routing")


def test_neighbours_are_buttons_that_choose(show: Callable[..., AppTest]) -> None:
    app = show(token=3)
    app.button(key="token-row-5-generated").click().run()
    assert app.number_input(key="token").value == 5
    assert not app.exception


def test_row_of_tokens_marks_special_and_generated_ones(show: Callable[..., AppTest]) -> None:
    buttons = [button for button in show(token=5).button if str(button.key).startswith("token-row-")]
    keys = [button.key for button in buttons]
    assert "｜" not in buttons[0].label
    assert keys == ["token-row-0-special", *(f"token-row-{i}" for i in range(1, 5)),
                    *(f"token-row-{i}-generated" for i in range(5, 13))]  # fmt: skip
