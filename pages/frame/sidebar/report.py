"""The report on the run on show: one HTML file, made when the visitor presses the button."""

import streamlit as st

from model.report.choice import Choice, attention_layers, choose, moe_layers, recorded_heads
from model.report.page import report
from model.trace.attention import ALL_HEADS
from model.trace.trace import Trace
from pages.common import files, session


def offer() -> None:
    """Draw the button that saves a report, and the switch that leaves the text out; nothing without a run on show."""
    trace = session.current_trace()
    if trace is None:
        return
    without_text = st.toggle(
        "Leave the text out", key="report-without-text",
        help="The report then holds no prompt, no token's text and no id. Experts, surprisal and attention of each "
        "token stay in it.",
    )  # fmt: skip
    choice = choice_on_show(trace, not without_text)
    st.download_button(
        "Save a report", data=lambda: report(trace, choice).encode(),
        file_name=files.file_name("report", choice.layer, "html", files.of_run(trace)[: 1 if without_text else 2]),
        mime="text/html", key="save-report", on_click="ignore", icon=":material/article:", width="stretch",
    )  # fmt: skip
    st.caption(f"A web page of this run, to read without a network or to print: {_in_words(choice)}.")


def choice_on_show(trace: Trace, with_text: bool) -> Choice:
    """Return the layer, token and head on show, as far as the trace holds them."""
    chosen = {name: st.session_state.get(name) for name in ("layer", "token", "head")}
    known = {
        "layer": {*moe_layers(trace), *attention_layers(trace)},
        "token": range(trace.num_tokens),
        "head": {*recorded_heads(trace), *([ALL_HEADS] if trace.has("attention") else [])},
    }
    return choose(trace, **{name: value for name, value in chosen.items() if value in known[name]}, with_text=with_text)


def _in_words(choice: Choice) -> str:
    layer = choice.attention_layer if choice.layer is None else choice.layer
    parts = [] if layer is None else [f"layer {layer}"]
    parts.append(f"token {choice.token}")
    if choice.head is not None:
        parts.append("all heads" if choice.head == ALL_HEADS else f"head {choice.head}")
    return ", ".join(parts)
