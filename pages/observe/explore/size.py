"""The number of tokens of the prompt, counted while the visitor types."""

import streamlit as st
from streamlit.components.v2 import component

from pages.common import models, session, text

# Streamlit sends a text area when the visitor leaves it; this script sends the text at each pause.
JS = """
const PAUSE_MS = 400;
let timer, send = null;
document.addEventListener('input', (event) => {
  if (!event.target.matches?.('textarea[aria-label="Prompt"]')) return;
  clearTimeout(timer);
  timer = setTimeout(() => send?.('typed', event.target.value), PAUSE_MS);
});
export default function ({ setStateValue }) {
  send = setStateValue;
  return () => { send = null; };
}
"""
_COMPONENT = component("moe_loupe_typed", html="<span hidden></span>", js=JS)


def show() -> None:
    """Show the number of tokens below the prompt; while the visitor types, this line alone is drawn again."""
    st.session_state.pop("typed", None)  # the text area itself was sent
    st.fragment(_line)()


def _line() -> None:
    with st.container(key="typed-script"):
        _COMPONENT(key="typed-text", default={"typed": None}, on_typed_change=_take, height="content")
    with st.container(key="prompt-size"):
        st.caption(of(st.session_state.get("typed", st.session_state.get("prompt") or "")) or "\N{NO-BREAK SPACE}")


def _take() -> None:
    typed = (st.session_state.get("typed-text") or {}).get("typed")
    if isinstance(typed, str):
        st.session_state["typed"] = typed


def of(prompt: str) -> str:
    """Return a sentence on the tokens of a text, or on why it cannot run; empty until its model is loaded."""
    named, loaded = models.available(), models.engines()
    if not prompt.strip() or not named or not loaded.has(named[models.chosen()]):
        return ""
    engine = loaded.get(named[models.chosen()])
    try:
        number = len(engine.encode(session.request_from_widgets(prompt)))
    except ValueError as error:
        return text.sentence(error)
    return f"The text has {number:,} token{'s' * (number != 1)}; the context holds {engine.context:,}."
