"""The prompt with its settings, and what starts a run: a button, an example, a link."""

import streamlit as st

from model.run.protocol import LocalEngineProtocol
from model.run.request import RequestError, RunRequest
from pages.common import examples, limits, models, runs, session, text
from pages.common.runs import Run

# Parameters of the address that make a run another one than the recorded example.
ASKING = {"prompt", "new", "temp", "seed", "top_p", "top_k", "chat", "model"}


def generate(example: str | None = None) -> None:
    """Take the widgets as they stand, or an example, and make that the session's run. A callback."""
    state = st.session_state
    if example is not None:
        state["prompt"] = examples.offered(chat())[example]
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


def restore_from_link() -> None:
    """On a page without the prompt: run, once per session, what a copied link asks for, before the page is drawn."""
    state, asked = st.session_state, st.query_params.to_dict()
    if not state.get("linked") and session.own_run() is None and ASKING & set(asked):
        state["linked"] = True
        try:
            request = session.request_from({"prompt": examples.FIRST} | asked)
        except ValueError as problem:
            _refuse_link(str(problem))
            return
        state["link-run"] = session.start(request)
        state["prompt"], state["new"], state["temp"] = request.prompt, request.max_new_tokens, request.temperature
        state["seed"], state["top_p"], state["top_k"] = request.seed, request.top_p, request.top_k
        state["chat"] = request.chat
    run = session.own_run()
    if run is not None and run is state.get("link-run"):
        _follow_link(run)


def _follow_link(run: Run) -> None:
    """Drive the run of a link with Stop beside it; one that came to nothing gives way to what was on show."""
    if run.waiting:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Stop", key="link-stop", on_click=session.stop)
            place = st.container(key="link-status").empty()
        runs.execute_unseen(run, place, lambda: _fitted_engine(run))
        st.rerun()
    if run.error:
        session.forget()
        _refuse_link(run.error)


def _fitted_engine(run: Run) -> LocalEngineProtocol:
    engine = session.engine()
    runs.fit(run, engine)
    return engine


def _refuse_link(problem: str) -> None:
    st.warning(f"The link cannot be followed: {text.plain(problem)}. The recorded example is shown instead.")


def mirror() -> None:
    """On a page without the prompt: keep in the address which run is on show, so that a copied link leads here."""
    run, current = session.shown(), st.query_params.to_dict()
    wanted = _address(run.request) if run is not None and run.kind == "run" and run.request is not None else {}
    for name in ASKING - {"model"}:
        if name in wanted and current.get(name) != wanted[name]:
            st.query_params[name] = wanted[name]
        elif name in current and name not in wanted:
            del st.query_params[name]


def _address(request: RunRequest) -> dict[str, str]:
    if request.prompt is None or len(request.prompt) > limits.LINK_CHARACTERS:
        return {}
    numbers = {
        "new": request.max_new_tokens,
        "temp": request.temperature,
        "seed": request.seed,
        "top_p": request.top_p,
        "top_k": request.top_k,
    }
    chat = {} if request.chat == models.answers() else {"chat": str(request.chat).lower()}
    return {"prompt": request.prompt} | chat | {name: f"{number:.10g}" for name, number in numbers.items()}


def examples_row() -> None:
    """One button per example prompt; it runs at once."""
    with st.container(horizontal=True, gap="small", key="examples"):
        for name in examples.offered(chat()):
            st.button(
                name, key=f"example-{name}", on_click=generate, args=(name,), type="tertiary", help="Run this example"
            )


def chat() -> bool:
    """Whether the prompt is put as a question: as chosen, or else as the model was made for."""
    return bool(st.session_state.get("chat", models.answers()))


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
    _number("New tokens", "new", 0, limits.NEW_TOKENS, limits.USUAL_NEW_TOKENS, 1, f"At most {limits.NEW_TOKENS}.")
    _number("Temperature", "temp", 0.0, 5.0, 0.7, 0.1, "0 takes the likeliest token.")
    _number("Seed", "seed", 0, 2**31, 0, 1, "The same seed gives the same run.")
    with st.popover("More", icon=":material/tune:"):
        st.toggle(
            "Put it as a question",
            models.answers(),
            key="chat",
            help="Between the tokens of a user's turn and an answer's, for a model that was tuned to answer.",
            bind="query-params",
        )
        _number("Top-p", "top_p", 0.01, 1.0, 1.0, 0.05, "1 cuts nothing off.")
        _number("Top-k", "top_k", 0, 10_000, 0, 1, "0 cuts nothing off.")


def _number(label: str, key: str, low: float, high: float, value: float, step: float, said: str) -> None:
    st.number_input(label, low, high, value, step, key=key, help=said, bind="query-params", width=120)
