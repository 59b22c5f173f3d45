"""The widgets that choose an experiment: its kind, and its experts, layer or strength."""

import streamlit as st

from model.run.interventions import (
    BiasOff,
    ForceExpert,
    GateTemperature,
    GroupLimitOff,
    Intervention,
    KnockOut,
    Replay,
    ScoreThreshold,
    TopK,
    experts_of_group,
)
from model.run.request import RequestError
from model.trace import file
from model.trace.observed_rule import rule_known, rule_of
from model.trace.router_rule import IDENTITY
from model.trace.trace import Trace, TraceError
from pages.common import controls, limits

KNOCK_OUT, GROUP, FORCE, TOP_K = "knock out experts", "knock out a group", "force experts", "other k"
BIAS_OFF, GROUP_LIMIT_OFF = "bias off", "group limit off"
_CHOOSE = "Choose another layer."
TEMPERATURE, THRESHOLD, REPLAY = "gate temperature", "score threshold", "replay a routing"
QUESTIONS = {
    KNOCK_OUT: "What did these experts do for this text? The router never chooses them; the next best replace them.",
    GROUP: "What did a whole group do for this text? The router never chooses any of its experts.",
    FORCE: (
        "What would these experts do for every token? Each replaces the expert that was chosen last, even if the "
        "group of the forced expert was not kept."
    ),
    TOP_K: "How many experts does this text need? Every token gets another number of experts, in every layer.",
    BIAS_OFF: "What does balancing cost this text? The router chooses by affinity alone, without the bias.",
    GROUP_LIMIT_OFF: "What does the group limit cost this text? The router chooses from all groups.",
    TEMPERATURE: (
        "How much depends on how sure the router is? Its logits are divided by this number: above 1, affinities are "
        "more alike; below 1, further apart."
    ),
    THRESHOLD: (
        "Do experts of low affinity matter? A chosen expert whose affinity is below this number keeps its place and "
        "gets no weight; the others share its weight."
    ),
    REPLAY: (
        "How much of the text depends on the routing? The tokens get exactly the experts and weights of another run; "
        "if that run is shorter, the model routes the remaining tokens."
    ),
}
OWN, UPLOADED = "this run", "a trace file"
NAMES_EXPERTS, IN_A_LAYER = (KNOCK_OUT, FORCE), (BIAS_OFF, GROUP_LIMIT_OFF, TEMPERATURE, THRESHOLD)


def kind(trace: Trace) -> str:
    """Draw the list of experiments that the trace's router allows, and return the chosen one."""
    meaning, without = "What to change in the routing. The line below says which question it answers.", lacking(trace)
    if without:
        reasons = "; ".join(f"{name}, because {reason}" for name, reason in without.items())
        meaning = f"{meaning} Not possible with this router: {reasons}."
    options = [name for name in QUESTIONS if name not in without]
    refused = st.session_state.get("what") or st.query_params.get("what")
    if refused in without:
        st.caption(f"{str(refused).capitalize()} is not possible here: {without[str(refused)]}.")
    controls.keep_within("what", options)
    return st.selectbox("Experiment", options, key="what", bind="query-params", width=210, help=meaning)


def lacking(trace: Trace) -> dict[str, str]:
    """Return the experiments that the router of a trace does not allow, with the reason for each."""
    if not rule_known(trace):
        possible = (KNOCK_OUT, REPLAY)
        return dict.fromkeys((name for name in QUESTIONS if name not in possible), "this router's rule is not known")
    rule, reasons = rule_of(trace), {}
    if rule.num_groups == 1:
        reasons[GROUP] = "this router has no groups"
    if not rule.has_selection_bias:
        reasons[BIAS_OFF] = "this router has no bias"
    if rule.num_kept_groups == rule.num_groups:
        reasons[GROUP_LIMIT_OFF] = "this router has no group limit"
    if rule.scoring == IDENTITY:
        reasons[TEMPERATURE] = "this router returns probabilities, so no temperature can divide its logits"
    return reasons


def reservation(trace: Trace, kind: str, layer: int) -> str | None:
    """Return what an experiment means where no rule is known, or where the experts follow from the token id.

    None where it means what its question says.
    """
    if kind == KNOCK_OUT and not rule_known(trace):
        return "This router's rule is not known: an expert that is knocked out keeps its place with a weight of 0."
    if trace.router is None or layer not in trace.router.table_layers:
        return None
    if kind in (FORCE, BIAS_OFF, GROUP_LIMIT_OFF):
        return f"In L{layer} a table gives the experts of each token id, so this cannot be changed there. {_CHOOSE}"
    effect = {
        KNOCK_OUT: "nothing replaces an expert that is knocked out; the others of the token share its weight",
        TOP_K: "a smaller number keeps the experts of the table with the highest affinities",
        TEMPERATURE: "the temperature changes the weights, not the choice",
    }.get(kind)
    return effect and f"In L{layer} a table gives the experts of each token id: {effect}."


def change(kind: str, trace: Trace, token: int, layer: int) -> tuple[Intervention, ...]:
    """Draw the widgets of an experiment and return its interventions.

    Raises:
        RequestError: the chosen values change nothing, or no run can have them.
    """
    if kind in NAMES_EXPERTS:
        experts = _experts(trace, token, layer)
        return tuple((KnockOut if kind == KNOCK_OUT else ForceExpert)(layer, expert) for expert in experts)
    if kind == GROUP:
        return tuple(KnockOut(layer, expert) for expert in _group(trace, token, layer))
    if kind == TOP_K:
        return (TopK(_top_k(trace)),)
    if kind == REPLAY:
        return (_replay(trace),)
    where = None if _everywhere() else layer
    if kind == TEMPERATURE:
        meaning = "Divides the router's logits; 1 is as trained."
        value = st.number_input("Temperature", 0.01, 100.0, 2.0, 0.1, key="gate", bind="query-params", help=meaning)
        return (GateTemperature(value, where),)
    if kind == THRESHOLD:
        meaning = "An affinity, the router's score before the bias, from 0 to 1; 0 changes nothing."
        value = st.number_input("Threshold", 0.0, 1.0, 0.1, 0.01, key="floor", bind="query-params", help=meaning)
        return (ScoreThreshold(value, where),)
    return (BiasOff(where) if kind == BIAS_OFF else GroupLimitOff(where),)


def _experts(trace: Trace, token: int, layer: int) -> tuple[int, ...]:
    """Draw the field of the expert that all pages share, and a field for further experts; return all these experts.

    At first, the shared expert is the one with the token's largest gate weight.
    """
    first = controls.expert(trace, controls.heaviest_expert(trace, token, layer)) or 0
    meaning = "More experts of the layer, by number, with commas between them."
    more = st.text_input("and also", key="also", bind="query-params", placeholder="none", help=meaning, width=110)
    parts = [part.strip() for part in (more or "").split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise RequestError(f"{more!r:.40} is not a list of experts such as 3, 21")
    return tuple(sorted({first, *map(int, parts)}))


def _group(trace: Trace, token: int, layer: int) -> tuple[int, ...]:
    """Draw a field for the number of an expert group and return the experts of the group.

    At first it is the group of the expert with the token's largest gate weight.
    """
    rule, default = rule_of(trace), controls.heaviest_expert(trace, token, layer)
    chosen = st.number_input(
        "Group", 0, rule.num_groups - 1, None, 1, key="group", bind="query-params",
        placeholder=str(rule.group_of(default)), help="Experts of a layer form groups of equal size.",
    )  # fmt: skip
    number = rule.group_of(default) if chosen is None else chosen
    return experts_of_group(number, rule.num_experts, rule.num_groups)


def _top_k(trace: Trace) -> int:
    trained = trace.shape.top_k or trace.data.sizes["rank"]
    meaning = f"The model was trained with {trained}."
    return st.number_input(
        "Experts per token", 1, rule_of(trace).num_experts, max(1, trained // 2), 1, key="k", bind="query-params",
        help=meaning, width=150,
    )  # fmt: skip


def _everywhere() -> bool:
    """Draw a switch and return its value: whether the change is for every MoE layer, not only for the chosen layer."""
    meaning = "Off: the change applies to the chosen layer only."
    return st.toggle("all layers", key="everywhere", bind="query-params", help=meaning)


# --- a routing to replay ---------------------------------------------------------------------------------------------


def _replay(trace: Trace) -> Replay:
    meaning = "Replaying this run's own routing changes only rounding; it tests the app itself."
    source = st.selectbox("Routing of", [OWN, UPLOADED], key="source", bind="query-params", help=meaning, width=150)
    if source == OWN:
        return Replay.of(trace)
    st.file_uploader(
        "Trace file", ["safetensors"], key="replay-file", on_change=_read, max_upload_size=limits.UPLOAD_BYTES // 2**20
    )
    replay = st.session_state.get("replay")
    if isinstance(replay, Replay):
        return replay
    raise RequestError(replay or "choose the trace file whose routing to replay; a link does not hold it")


def _read() -> None:
    """Store the routing of an uploaded trace in the session, or the error. A callback."""
    uploaded = st.session_state.get("replay-file")
    try:
        st.session_state["replay"] = uploaded and Replay.of(file.loads(uploaded.getvalue()))
    except (TraceError, RequestError) as error:
        st.session_state["replay"] = str(error)
