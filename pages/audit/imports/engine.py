"""Widgets that send a prompt to the serving engine that the operator named, and the run of the prompt."""

import dataclasses
import os
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.run.request import FIELDS, Capture
from pages.audit.imports import choices
from pages.common import limits, live, runs, session, text, view

if TYPE_CHECKING:
    from model.run.served import Served

ADDRESS, KIND = "MOE_LOUPE_ENGINE", "MOE_LOUPE_ENGINE_KIND"
ENGINE = "engine"  # kind of a run on a serving engine


def address() -> str:
    """Return the address of the operator's engine; empty if the operator named none."""
    return os.environ.get(ADDRESS, "").strip()


def go_on(placeholder: DeltaGenerator) -> None:
    """Execute the session's waiting run on the engine, if there is one, and send its tokens to the lens."""
    run = session.own_run()
    if run is None or run.kind != ENGINE or run.request is None or not run.waiting:
        return
    try:
        engine = _connected()
    except ValueError as error:
        run.refuse(str(error))
        st.rerun()
    st.button("Stop", key="engine_stop", on_click=session.stop)
    view.lens(live.announce(engine, run.request, run.number), engine.config)
    runs.execute(run, engine, placeholder)
    run.note = engine.arrival or None
    st.rerun()


def _connected() -> "Served":
    from model.run.remote import Connection
    from model.run.served import Served

    model = st.session_state.get("import_model")
    if model in (None, choices.NOT_NAMED):
        raise ValueError("choose the model that the engine serves: its answers do not say which layers have experts")
    return Served(Connection(address()), choices.named(model), os.environ.get(KIND) or None)


def ask() -> None:
    """Draw the prompt and its settings; if the operator named no engine, show how to name one."""
    if not address():
        st.caption(
            "This page can also send prompts to a running vLLM or SGLang. Whoever starts the app sets its address in "
            f"`{ADDRESS}`."
        )
        return
    with st.expander("Ask the engine", icon=":material/dns:", expanded=True):
        target = text.as_code(address()[:200])
        st.markdown(f"What you send goes to {target}, the engine that this server's operator named.")
        st.text_area("Prompt for the engine", key="engine_prompt", height=76)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.button("Send", key="engine_send", type="primary", on_click=_send)
            first = session.first_value(FIELDS["max_new_tokens"])
            st.number_input("New tokens", 1, limits.NEW_TOKENS, first, key="engine_new", width=120)
            st.number_input(
                "Temperature", 0.0, 5.0, 0.0, 0.1, key="engine_temp", width=120, help=FIELDS["temperature"].help
            )
            st.number_input("Seed", 0, 2**31, 0, key="engine_seed", width=120, help=FIELDS["seed"].help)


def _send() -> None:
    """Make a run of the prompt the session's run; the page executes it. A callback."""
    state = st.session_state
    state["refused"] = None
    try:
        request = session.request_from(
            {name: state.get(f"engine_{name}") for name in ("prompt", "new", "temp", "seed")} | {"chat": False}
        )
    except ValueError as error:
        state["refused"] = str(error)
        return
    session.start(dataclasses.replace(request, capture=Capture()), ENGINE)
