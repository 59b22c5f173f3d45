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
        "Prompt", examples.FIRST, height=76, key="prompt", label_visibility="collapsed",
        placeholder="Type anything", **({"persist_state": "session"} if long else {"bind": "query-params"}),
    )  # fmt: skip


def settings() -> None:
    """How the tokens are drawn; all of it is mirrored in the address."""
    number, bound = st.number_input, {"bind": "query-params", "width": 120}
    number("New tokens", 0, limits.NEW_TOKENS, 48, 1, key="new", help=f"At most {limits.NEW_TOKENS}.", **bound)
    number("Temperature", 0.0, 5.0, 0.7, 0.1, "%.2g", key="temp", help="0 takes the likeliest token.", **bound)
    number("Seed", 0, 2**31, 0, 1, key="seed", help="The same seed gives the same run.", **bound)
    more = st.popover("More", icon=":material/tune:")
    with more:
        number("Top-p", 0.01, 1.0, 1.0, 0.05, "%.2g", key="top_p", help="1 cuts nothing off.", **bound)
        number("Top-k", 0, 10_000, 0, 1, key="top_k", help="0 cuts nothing off.", **bound)
