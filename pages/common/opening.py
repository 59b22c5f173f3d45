"""Open a view in a session that already lives, as a link opens it in a new one, and return the view on show."""

import sys
from collections.abc import Mapping

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException, get_script_run_ctx

from model.run.request import FIELDS
from pages.common import controls, limits, models, prompt, session, text, view
from pages.common.menu import FIRST, page_path
from pages.common.runs import Run

# Parameters of the URL that belong to the session or the frame. A view neither holds nor changes them.
FRAME = ("session", "lesson", "step", "room", "teach", "present", "hide")
MOST_WAIT = 0.2  # seconds; an equal finished run is there by then, and the sidebar names it
_PENDING, _HELD, _RUN = "view-to-open", "view-held", "view-run"
_SHARED_DEFAULTS = {"token": None, "expert": None, "tokens": controls.POPULATIONS[0], "special": True}


def open_view(page: str, values: Mapping[str, str]) -> None:
    """Let `go` open a page with these values, as a link with them would.

    Call it in a callback; in a script before `go`; or elsewhere in a script, followed by `st.rerun()`.

    Args:
        page: name of the page in the menu.
        values: names and texts as in a URL, such as `current_view` returns. Without a prompt, model or setting, the
            recorded example is shown. A run that `open_view` started is kept if the request stays the same. Layer and
            head keep their value if they are missing; every other missing choice gets its default.

    Raises:
        KeyError: the menu has no page of this name.
    """
    page_path(page)
    st.session_state[_PENDING] = (page, dict(values))


def current_view() -> tuple[str, dict[str, str]]:
    """Return the page on show and the values with which `open_view` shows it, but for a trace from a file."""
    address, run = st.query_params.to_dict(), session.own_run()
    run = run if run is not None and run.waiting else session.shown()
    values = {name: value for name, value in address.items() if name not in (*FRAME, *prompt.RUN_KEYS)}
    for name, value in controls.choices().items():
        values.pop(name, None)
        if value is not None:
            values[name] = value
    if run is not None and run.kind == "run" and run.request is not None:
        values |= prompt.values_of(run.request) | {"model": _model(run)}
    return st.session_state.get("address-taken") or FIRST, values


def _model(run: Run) -> str:
    names = models.available()
    made_by = run.trace.model.get("name") if run.trace is not None else None
    return str(made_by) if made_by in names else models.chosen()


def go(page: str) -> None:
    """Open the view that `open_view` named. Call it in each script run, before any widget.

    Args:
        page: name of the page that this script run draws.
    """
    state = st.session_state
    if _PENDING in state:
        wanted, values = state[_PENDING]
        if wanted != page:
            controls.keep()  # a script that ends here forgets the values of widgets that nobody assigned
            st.switch_page(page_path(wanted), query_params=_of_frame())
        state[_HELD] = state.pop(_PENDING)
        state.update(_SHARED_DEFAULTS)
        controls.take(values)
        view.choose_in_lens(values)
        _show_run(values)
    if _HELD in state:
        held, values = state[_HELD]
        if held == page:
            _write_address(_of_frame() | values)
        else:
            del state[_HELD]


def settle() -> None:
    """Let widgets have the visitor's values again, once the page was drawn. Call it at the end of each script run."""
    ended, run = sys.exc_info()[1], session.own_run()
    waits = run is not None and run.waiting and run is st.session_state.get(_RUN, (None,))[-1]
    if not isinstance(ended, RerunException) and not waits:
        st.session_state.pop(_HELD, None)


def _of_frame() -> dict[str, str]:
    return {name: value for name, value in st.query_params.to_dict().items() if name in FRAME}


def _write_address(values: Mapping[str, str]) -> None:
    """Replace the URL's parameters, and let every bound widget of this script run take its value from them.

    Streamlit does so if the visitor goes back in the browser's history, but offers no function for it: it refuses to
    set a parameter that is bound to a widget.
    """
    context = get_script_run_ctx()
    assert context is not None
    long = len(values.get("prompt", "")) > limits.LINK_CHARACTERS  # the box is not bound then
    with context.session_state.query_params() as address:
        address.clear_with_no_forward_msg()
        for name, value in values.items():
            if not (long and name == "prompt"):
                address.set_with_no_forward_msg(name, value)
        address.set_initial_query_params_from_current()
        address.set_with_no_forward_msg(_PENDING, "")
        address.remove_param(_PENDING)  # sends the whole address to the browser
    context.is_history_navigation = True


def _show_run(values: Mapping[str, str]) -> None:
    """Start the run that the values describe, unless it is the session's run; without any, show the example."""
    state, name = st.session_state, values.get("model")
    state["refused"], state["linked"] = None, True
    if name is not None and name not in models.available():
        state["refused"] = f"the model {text.plain(name, 80)} is not installed"
        return
    state["model"] = name or next(iter(models.available()), None)
    try:
        request = session.request_from(values)
        if not prompt.RUN_KEYS & set(values):
            session.show_recorded()
        elif state.get(_RUN) != (models.chosen(), request, session.own_run()) or state[_RUN][2].error:
            state["page-run"] = session.start(request, session.recorder(reuse=True))
            state[_RUN] = (models.chosen(), request, state["page-run"])
            state["page-run"].done.wait(MOST_WAIT)
    except ValueError as error:
        state["refused"] = str(error)
        return
    for field in FIELDS.values():
        state[field.key] = getattr(request, field.name)
