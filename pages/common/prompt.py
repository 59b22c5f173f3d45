"""The prompt with its settings, and what starts a run: a button, an example, a link."""

import streamlit as st

from model.run.request import RequestError
from pages.common import examples, limits, session

# Parameters of the address that make a run another one than the recorded example.
ASKING = {"prompt", "new", "temp", "seed", "top_p", "top_k", "model"}


def generate(example: str | None = None) -> None:
    """Take the widgets as they stand, or an example, and make that the session's run. A callback."""
    state = st.session_state
    if example is not None:
        state["prompt"] = examples.PROMPTS[example]
    state["refused"], state["token"] = None, None
    try:
        session.start(session.request_from_widgets())
    except RequestError as problem:
        state["refused"] = str(problem)


def start_from_link() -> None:
    """Run, once per session, what a copied link asks for when that is not the recorded example.

    To be called after the widgets, which take their values from the address.
    """
    state = st.session_state
    if not state.get("linked"):
        state["linked"] = True
        if ASKING & set(st.query_params) and session.own_run() is None:
            generate()


def examples_row() -> None:
    """One button per example prompt; it runs at once."""
    with st.container(horizontal=True, gap="small", key="examples"):
        for name in examples.PROMPTS:
            st.button(
                name, key=f"example-{name}", on_click=generate, args=(name,), type="tertiary", help="Run this example"
            )


def box() -> None:
    """The prompt itself; it is mirrored in the address unless it is too long for one."""
    long = len(st.session_state.get("prompt") or "") > limits.LINK_CHARACTERS
    st.text_area(
        "Prompt",
        examples.FIRST,
        height=76,
        key="prompt",
        label_visibility="collapsed",
        placeholder="Type anything",
        bind=None if long else "query-params",
        persist_state="session",
    )
    if long:
        st.caption(f"A prompt of more than {limits.LINK_CHARACTERS:,} characters is not part of the link.")


def settings() -> None:
    """How the tokens are drawn; all of it is mirrored in the address."""
    _number("New tokens", "new", 0, limits.NEW_TOKENS, 48, 1, f"At most {limits.NEW_TOKENS}.")
    _number("Temperature", "temp", 0.0, 5.0, 0.7, 0.1, "0 takes the likeliest token.")
    _number("Seed", "seed", 0, 2**31, 0, 1, "The same seed gives the same run.")
    with st.popover("More", icon=":material/tune:"):
        _number("Top-p", "top_p", 0.01, 1.0, 1.0, 0.05, "1 cuts nothing off.")
        _number("Top-k", "top_k", 0, 10_000, 0, 1, "0 cuts nothing off.")


def _number(label: str, key: str, low: float, high: float, value: float, step: float, said: str) -> None:
    st.number_input(label, low, high, value, step, key=key, help=said, bind="query-params", width=120)
