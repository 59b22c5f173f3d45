"""Widgets that send a prompt to the serving engine that the operator named, and the run of the prompt."""

import dataclasses
import os
from collections.abc import Callable

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.run.request import FIELDS, Capture
from pages.audit.imports import choices
from pages.common import limits, runs, session, text, view
from pages.common.runs import Run

ADDRESS, KIND = "MOE_LOUPE_ENGINE", "MOE_LOUPE_ENGINE_KIND"
ENGINE = "engine"  # kind of a run on a serving engine


def address() -> str:
    """Return the address of the operator's engine; empty if the operator named none."""
    return os.environ.get(ADDRESS, "").strip()


def go_on(placeholder: DeltaGenerator) -> None:
    """If this session has a run in progress on the engine, show its progress and tokens in the lens until it ends."""
    run = session.own_run()
    if run is not None and run.kind == ENGINE and run.waiting:
        st.button("Stop", key="engine_stop", on_click=session.stop)
        view.follow(run, placeholder, st.container())


def _recorder() -> Callable[[Run], None]:
    """Return a function that does a run on the engine and stores its trace.

    Raises:
        ValueError: the model is not chosen, or unknown.
    """
    model = st.session_state.get("import_model")
    if model in (None, choices.NOT_NAMED):
        raise ValueError("choose the model that the engine serves: its answers do not say which layers have experts")
    named = choices.named(model)

    def work(run: Run) -> None:
        from model.run.remote import Connection
        from model.run.served import Served

        run.advance(0.0, "Asking the engine")
        engine = Served(Connection(address()), named, os.environ.get(KIND) or None)
        runs.record(run, engine)
        run.note = engine.arrival or None

    return work


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
    """Start a run of the prompt in this session. A callback."""
    state = st.session_state
    state["refused"] = None
    try:
        request = session.request_from(
            {name: state.get(f"engine_{name}") for name in ("prompt", "new", "temp", "seed")} | {"chat": False}
        )
        session.start(dataclasses.replace(request, capture=Capture()), _recorder(), ENGINE)
    except ValueError as error:
        state["refused"] = str(error)
