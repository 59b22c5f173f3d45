"""Which experiment to make: its kind, what it is done to, and the question that it answers."""

import streamlit as st

from model.run.request import (
    BiasOff,
    ForceExpert,
    GateTemperature,
    GroupLimitOff,
    Intervention,
    KnockOut,
    Replay,
    RequestError,
    ScoreThreshold,
    TopK,
    experts_of_group,
)
from model.trace import file, shape
from model.trace.trace import Trace, TraceError
from pages.common import controls, limits, routing_tables

KNOCK_OUT, GROUP, FORCE, TOP_K = "knock out experts", "knock out a group", "force experts", "other k"
BIAS_OFF, GROUP_LIMIT_OFF = "bias off", "group limit off"
TEMPERATURE, THRESHOLD, REPLAY = "gate temperature", "score threshold", "replay a routing"
QUESTIONS = {
    KNOCK_OUT: "What did these experts do for this text? They are never chosen; the next best take their places.",
    GROUP: "What did a whole group do for this text? None of its experts is ever chosen.",
    FORCE: "What would these experts do for every token? They take places from those chosen last.",
    TOP_K: "How many experts does this text need? Every token takes another number of them, in every layer.",
    BIAS_OFF: "What does balancing cost this text? Experts are chosen by affinity alone, without the bias.",
    GROUP_LIMIT_OFF: "What does the group limit cost this text? Experts are chosen from all groups.",
    TEMPERATURE: (
        "How much hangs on how sure the router is? Its logits are divided by this number: above 1 affinities are more "
        "alike, below 1 further apart."
    ),
    THRESHOLD: (
        "Do the weakly wanted experts matter? A chosen expert whose affinity is below this number keeps its place and "
        "gets no weight; the others share it."
    ),
    REPLAY: (
        "How much of the text lies in the routing? The tokens take exactly the experts and weights of another run; "
        "tokens after its end are routed by the model."
    ),
}
OWN, UPLOADED = "this run's own", "a trace file"
NAMES_EXPERTS, IN_A_LAYER = (KNOCK_OUT, FORCE), (BIAS_OFF, GROUP_LIMIT_OFF, TEMPERATURE, THRESHOLD)


def kind() -> str:
    """Choose the experiment."""
    return st.selectbox("Experiment", list(QUESTIONS), key="what", bind="query-params", width=210)


def change(what: str, trace: Trace, token: int, layer: int) -> tuple[Intervention, ...]:
    """Choose what the experiment is done to.

    Raises:
        RequestError: what was typed is no experiment.
    """
    if what in NAMES_EXPERTS:
        named = _experts(trace, token, layer)
        return tuple((KnockOut if what == KNOCK_OUT else ForceExpert)(layer, expert) for expert in named)
    if what == GROUP:
        return tuple(KnockOut(layer, expert) for expert in _group(trace, token, layer))
    if what == TOP_K:
        return (TopK(_top_k(trace)),)
    if what == REPLAY:
        return (_replay(trace),)
    where = None if _everywhere() else layer
    if what == TEMPERATURE:
        said = "1 is as trained."
        value = st.number_input("Temperature", 0.01, 100.0, 2.0, 0.1, key="gate", bind="query-params", help=said)
        return (GateTemperature(value, where),)
    if what == THRESHOLD:
        said = "An affinity from 0 to 1; 0 changes nothing."
        value = st.number_input("Threshold", 0.0, 1.0, 0.1, 0.01, key="floor", bind="query-params", help=said)
        return (ScoreThreshold(value, where),)
    return (BiasOff(where) if what == BIAS_OFF else GroupLimitOff(where),)


def _experts(trace: Trace, token: int, layer: int) -> tuple[int, ...]:
    """The shared expert, by default the one that counts most for the token, and others."""
    first = controls.expert(trace, routing_tables.strongest(trace, token, layer)) or 0
    said = "More experts of the layer, with commas between them."
    more = st.text_input("and also", key="also", bind="query-params", placeholder="none", help=said, width=110)
    parts = [part.strip() for part in (more or "").split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise RequestError(f"{more!r:.40} is not a list of experts such as 3, 21")
    return tuple(sorted({first, *map(int, parts)}))


def _group(trace: Trace, token: int, layer: int) -> tuple[int, ...]:
    groups, default = shape.num_groups(trace), routing_tables.strongest(trace, token, layer)
    chosen = st.number_input(
        "Group", 0, groups - 1, None, 1, key="group", bind="query-params",
        placeholder=str(shape.group_of(trace, default)),
    )  # fmt: skip
    number = shape.group_of(trace, default) if chosen is None else chosen
    return experts_of_group(number, shape.num_experts(trace), groups)


def _top_k(trace: Trace) -> int:
    trained = trace.config.get("num_experts_per_tok") or trace.data.sizes["rank"]
    said = f"The model was trained with {trained}."
    return st.number_input(
        "Experts per token", 1, shape.num_experts(trace), max(1, trained // 2), 1, key="k", bind="query-params",
        help=said, width=150,
    )  # fmt: skip


def _everywhere() -> bool:
    return st.toggle("all layers", key="everywhere", bind="query-params")


# --- a routing to replay ---------------------------------------------------------------------------------------------


def _replay(trace: Trace) -> Replay:
    said = "The routing of this run changes nothing, but for rounding: a test of the instrument itself."
    source = st.selectbox("Routing of", [OWN, UPLOADED], key="source", bind="query-params", help=said, width=150)
    if source == OWN:
        return Replay.of(trace)
    st.file_uploader(
        "Trace file", ["safetensors"], key="replay-file", on_change=_read, max_upload_size=limits.UPLOAD_BYTES // 2**20
    )
    found = st.session_state.get("replay")
    if isinstance(found, Replay):
        return found
    raise RequestError(found or "choose the trace file whose routing is to be replayed; a link does not hold it")


def _read() -> None:
    """Keep the routing of an uploaded trace, or why there is none. A callback."""
    uploaded = st.session_state.get("replay-file")
    try:
        st.session_state["replay"] = uploaded and Replay.of(file.loads(uploaded.getvalue()))
    except (TraceError, RequestError) as problem:
        st.session_state["replay"] = str(problem)
