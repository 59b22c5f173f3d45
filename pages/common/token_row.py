"""The text around the chosen token, as a row of buttons; a click chooses the token."""

import streamlit as st

from model.trace.trace import Token, Trace
from pages.common import controls, text


def show(trace: Trace, token: int, reach: int = 6) -> None:
    """Draw a row of 2 * `reach` + 1 buttons for the tokens around the chosen token, or for all of a shorter text."""
    first = max(0, min(token - reach, trace.num_tokens - 2 * reach - 1))
    with st.container(horizontal=True, key="token-row", gap=None):
        for index in range(first, min(first + 2 * reach + 1, trace.num_tokens)):
            entry = trace.tokens[index]
            st.button(
                text.as_code(text.token(trace, index)),
                key=f"token-row-{index}{_marks(entry)}",
                help=f"Token {index}, id {entry.id}, {'generated' if entry.generated else 'prompt'}",
                type="secondary" if index == token else "tertiary",
                on_click=controls.choose,
                kwargs={"token": index},
            )


def _marks(entry: Token) -> str:
    """Return the end of a button's key, by which the CSS marks generated and special tokens."""
    return "-special" * entry.special + "-generated" * entry.generated
