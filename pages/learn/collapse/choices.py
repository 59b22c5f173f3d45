"""The widgets of the Collapse page: the settings of two runs, and their buttons."""

from typing import Any

import streamlit as st

from pages.learn.collapse import runs
from pages.learn.collapse.runs import STRENGTHS

FIRST = {"A": "nothing", "B": "bias"}
_MEANINGS = {
    "nothing": "Nothing balances the experts.",
    "bias": "After each step the selection bias of a busy expert falls by the strength, that of an idle one rises. V3 "
    "does this.",
    "loss": "A loss punishes uneven load, weighted by the strength; the method before V3.",
}


def settings(side: str) -> dict[str, Any]:
    """Draw the settings of run `side`, A or B; return them by field of `model.train.demo.nano.Nano`."""
    first = FIRST[side]
    method = st.segmented_control(
        "Balanced by", list(STRENGTHS), default=first, required=True, key=f"method-{side}", bind="query-params",
        help="The method that evens out the load, the share of tokens that each expert gets.",
    )  # fmt: skip
    strengths, strength = STRENGTHS[method or first]
    with st.container(key=f"how-{side}"):  # equally high with and without a strength, so that both sides stay level
        st.caption(_MEANINGS[method or first])
        if len(strengths) > 1:
            strength = st.select_slider(
                "Strength", strengths, strength, key=f"strength-{side}-{method}", format_func="{:g}".format,
                bind="query-params", help="The step of the bias, or the weight of the loss.",
            )  # fmt: skip
    with st.container(horizontal=True):
        softmax = st.toggle(
            "Softmax", key=f"softmax-{side}", bind="query-params",
            help=(
                    "On: a softmax makes the affinities of all experts sum to 1. Off: each affinity is a sigmoid of "
                    "its own logit."
                ),
        )  # fmt: skip
        limited = st.toggle(
            "Group limit", True, key=f"groups-{side}", bind="query-params",
            help="On: the experts of a token come from only two of the four groups.",
        )  # fmt: skip
    return {"method": method or first, "strength": strength, "softmax": softmax, "limit_groups": limited}


def side(name: str) -> None:
    """Draw the settings and the buttons of run `name`, A or B."""
    st.markdown(f"**Run {name}**")
    chosen, run = settings(name), runs.runs().get(name)
    going = run is not None and run.waiting
    with st.container(horizontal=True):
        st.button(
            f"Train {name}", key=f"train-{name}", type="primary", on_click=runs.start, args=(name, chosen),
            disabled=going,
        )  # fmt: skip
        st.button(f"Stop {name}", key=f"stop-{name}", on_click=runs.stop, args=(name,), disabled=not going)
