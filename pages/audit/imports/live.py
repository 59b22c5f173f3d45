"""The Imports page: a prompt for the engine that the operator named, and its routing as it comes back."""

import dataclasses
import os
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.run.request import FIELDS, Capture
from pages.audit.imports import file
from pages.common import limits, live, runs, session, text, view
from pages.common.runs import Run

if TYPE_CHECKING:
    from model.run.served import Served

ADDRESS, KIND = "MOE_LOUPE_ENGINE", "MOE_LOUPE_ENGINE_KIND"
ENGINE = "engine"  # the kind of such a run


def address() -> str:
    """Where the operator's engine is; empty when none is named."""
    return os.environ.get(ADDRESS, "").strip()


def go_on(place: DeltaGenerator) -> None:
    """Execute the session's run on the engine, if one waits; the lens shows what has come so far."""
    run = session.own_run()
    if run is None or run.kind != ENGINE or run.request is None or not run.waiting:
        return
    try:
        engine = _connected(run)
    except ValueError as problem:
        run.refuse(str(problem))
        st.rerun()
    st.button("Stop", key="engine_stop", on_click=session.stop)
    view.lens(live.announce(engine, run.request, run.number), engine.config)
    runs.execute(run, engine, place)
    run.note = engine.said or None
    st.rerun()


def _connected(run: Run) -> "Served":
    from model.run.remote import Connection
    from model.run.served import Served

    model = st.session_state.get("import_model")
    if model in (None, file.NOT_NAMED):
        raise ValueError("choose the model that the engine serves: its answers do not say which layers have experts")
    return Served(Connection(address()), file.named(model), os.environ.get(KIND) or None)


def ask() -> None:
    """A prompt and its settings; nothing at all where the operator named no engine."""
    if not address():
        st.caption(
            f"Instead of a file, a running vLLM or SGLang can be asked directly; whoever starts this app names it in "
            f"`{ADDRESS}`."
        )
        return
    with st.expander("Ask the engine", icon=":material/dns:", expanded=True):
        where = text.as_code(address()[:200])
        st.markdown(f"What you send goes to {where}, the engine that this server's operator named.")
        st.text_area("Prompt for the engine", key="engine_prompt", height=76)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.button("Send", key="engine_send", type="primary", on_click=_send)
            first = session.first_value(FIELDS["max_new_tokens"])
            st.number_input("New tokens", 1, limits.NEW_TOKENS, first, key="engine_new", width=120)
            st.number_input("Temperature", 0.0, 5.0, 0.0, 0.1, key="engine_temp", width=120)
            st.number_input("Seed", 0, 2**31, 0, key="engine_seed", width=120)


def _send() -> None:
    """Make it the session's run; the page executes it. A callback."""
    state = st.session_state
    state["refused"] = None
    try:
        request = session.request_from(
            {name: state.get(f"engine_{name}") for name in ("prompt", "new", "temp", "seed")} | {"chat": False}
        )
    except ValueError as problem:
        state["refused"] = str(problem)
        return
    session.start(dataclasses.replace(request, capture=Capture()), ENGINE)
