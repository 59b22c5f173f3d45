"""The prompt and its settings, and the three ways to start a run: the button, an example and a link."""

import streamlit as st

from model.run.request import FIELDS, RequestError, RunRequest
from model.run.request_fields import RequestField
from pages.common import controls, examples, jobs, limits, models, session, text
from pages.common.runs import Run

# Keys of a URL that say which run to show. A URL without any of them shows the recorded example.
RUN_KEYS = {"model", *(field.key for field in FIELDS.values())}


def generate(example: str | None = None) -> None:
    """Start a run of the prompt in the widgets, or of the example with this name. A callback."""
    state = st.session_state
    if example is not None:
        state["prompt"] = examples.offered(chat())[example]
    state["token"] = None
    _start()


def generate_on(model: str, typed: str) -> None:
    """Start a run of the text `typed` on another model, from a page without the prompt. A callback."""
    state = st.session_state
    state["model"], state["prompt"], state["token"] = model, typed, None
    state["chat"] = models.answers()
    _start()
    if not state["refused"]:
        state["page-run"] = session.own_run()  # `restore_from_link` waits for it on any page


def _start() -> None:
    state = st.session_state
    state["refused"] = None
    try:
        session.start(session.request_from_widgets(), session.recorder())
    except RequestError as error:
        state["refused"] = str(error)


def start_from_link() -> None:
    """Start the run that the URL describes, or repeat the run that a reload ended, at most once per session.

    The page with the prompt calls this function after its widgets, which take their values from the URL.
    """
    state = st.session_state
    if "again" in state:
        session.start(state.pop("again"), session.recorder())
    if not state.get("linked"):
        state["linked"] = True
        if RUN_KEYS & set(st.query_params) and session.own_run() is None:
            _start()


def restore_from_link() -> None:
    """Do the run that the URL describes, or repeat the run that a reload ended, at most once per session.

    A page without the prompt calls this function before it draws anything. The function waits until this run, or a
    run that `generate_on` or `opening.go` started, has ended.
    """
    state, address = st.session_state, st.query_params.to_dict()
    if "again" in state:
        state["page-run"] = session.start(state.pop("again"), session.recorder(reuse=True))
    if not state.get("linked") and session.own_run() is None and RUN_KEYS & set(address):
        state["linked"] = True
        try:
            request = session.request_from(address)
            state["link-run"] = session.start(request, session.recorder(reuse=True))
        except ValueError as error:
            _refuse_link(str(error))
            return
        for field in FIELDS.values():
            state[field.key] = getattr(request, field.name)
    run = session.own_run()
    if run is not None and run in (state.get("link-run"), state.get("page-run")):
        _follow_link(run)


def _follow_link(run: Run) -> None:
    """Wait for the run of a link, with a Stop button. If the run is refused, pages show the previous run again."""
    if run.waiting:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Stop", key="link-stop", on_click=session.stop)
            placeholder = st.container(key="link-status").empty()
        jobs.follow(run, placeholder)
        st.rerun()
    if st.session_state.get("followed") != run.number:  # the sidebar was drawn before the run began
        st.session_state["followed"] = run.number
        st.rerun()
    if run.error:
        session.forget()
        if run is st.session_state.get("link-run"):
            _refuse_link(run.error)
        else:
            st.warning(f"{text.sentence(run.error)} The page shows the previous run again.")


def _refuse_link(error: str) -> None:
    st.warning(f"The link cannot be followed: {text.plain(error)}. The recorded example is shown instead.")


def mirror() -> None:
    """Write the request of the run on show to the URL, on a page without the prompt."""
    run = session.shown()
    wanted = address_of(run.request) if run is not None and run.kind == "run" and run.request is not None else {}
    for key in RUN_KEYS - {"model"}:  # the sidebar's widget writes the model
        controls.write_address(key, wanted.get(key))


def address_of(request: RunRequest) -> dict[str, str]:
    """Return the keys and values of a request in a URL; an empty dict if its prompt is too long.

    A switch that has its default is left out.
    """
    if request.prompt is None or len(request.prompt) > limits.LINK_CHARACTERS:
        return {}
    return values_of(request)


def values_of(request: RunRequest) -> dict[str, str]:
    """Return the keys and values of a request, as in a URL; a switch that has its default is left out."""
    values = {field: getattr(request, field.name) for field in FIELDS.values()}
    return {
        field.key: field.write(value)
        for field, value in values.items()
        if field.kind is not bool or value != session.first_value(field)
    }


def left_out(run: Run | None) -> str | None:
    """Return a sentence on what a link to the run on show cannot hold; None if the link restores the run."""
    if run is None or run.trace is None or run.kind == "recorded":
        return None
    if run.kind != "run" or run.request is None:
        return "A link does not hold a trace from a file."
    if not address_of(run.request):
        number = len(run.request.prompt or "")
        return f"The prompt has {number:,} characters and a link holds {limits.LINK_CHARACTERS:,}."
    return None


def not_run(run: Run | None) -> str | None:
    """Return a sentence if the prompt or a setting differs from the run on show; None if nothing differs."""
    state = st.session_state
    if run is None or run.trace is None:
        return None
    typed = state.get("prompt", examples.FIRST)
    if typed != prompt_of(run):
        what = "The trace on show comes from a file" if run.kind == "opened" else "Another text is on show"
        return f"{what}; Generate runs the text in the box."
    if run.kind != "run" or run.request is None:
        return None
    changed = [
        field.label
        for field in FIELDS.values()
        if state.get(field.key) not in (None, getattr(run.request, field.name))
        and not (run.note and field.name == "max_new_tokens")  # a run from disk generates no tokens in any case
    ]
    return f"Changed since the run on show: {', '.join(changed)}." if changed else None


def prompt_of(run: Run) -> str | None:
    """Return the prompt of a run. For a trace from a file, it is the text of the prompt tokens."""
    if run.kind == "recorded":
        return examples.FIRST
    if run.request is not None:
        return run.request.prompt
    assert run.trace is not None
    end = max((token.end for token in run.trace.tokens if not token.generated), default=0)
    return run.trace.text[:end].decode("utf-8", "replace")


def examples_row() -> None:
    """Draw a button per example prompt; a click runs the prompt."""
    with st.container(horizontal=True, gap="small", key="examples"):
        for name in examples.offered(chat()):
            st.button(
                name, key=f"example-{name}", on_click=generate, args=(name,), type="tertiary", help="Run this example"
            )


def chat() -> bool:
    """Return the value of the chat switch: as the visitor set it, else its default."""
    return bool(st.session_state.get("chat", session.first_value(FIELDS["chat"])))


def box() -> None:
    """Draw the text area of the prompt; the URL holds the prompt unless it is too long."""
    field, long = FIELDS["prompt"], len(st.session_state.get("prompt") or "") > limits.LINK_CHARACTERS
    st.text_area(
        field.label,
        session.first_value(field),
        height=76,
        key=field.key,
        label_visibility="collapsed",
        placeholder="Type anything",
        bind=None if long else "query-params",
        persist_state="session",
    )
    if long:
        controls.write_address(field.key, None)  # the browser wrote it while the text was typed
        st.caption(f"A prompt of more than {limits.LINK_CHARACTERS:,} characters is not part of the link.")


def settings() -> None:
    """Draw a widget for every field of a request but the prompt; the URL holds their values."""
    fields = [field for field in FIELDS.values() if field.name != "prompt"]
    for field in fields:
        if not field.more:
            _widget(field)
    with st.popover("More", icon=":material/tune:"):
        for field in sorted(fields, key=lambda field: field.kind is not bool):  # switches come first
            if field.more:
                _widget(field)


def _widget(field: RequestField) -> None:
    first, high = session.first_value(field), limits.highest(field)
    hint = field.help.format(high=high)
    if field.kind is bool:
        st.toggle(field.label, first, key=field.key, help=hint, bind="query-params")
    else:
        st.number_input(
            field.label, field.low, high, first, field.step, key=field.key, help=hint, bind="query-params", width=120
        )
