"""The widgets of the Architecture page: model, part, context length, dtype, and the layer whose load is painted."""

from typing import TYPE_CHECKING

import streamlit as st

from model.trace.trace import Trace
from pages.common import controls, models
from pages.learn.architecture.catalogue import IN_USE, TITLES, ShownModel, made

if TYPE_CHECKING:
    from model.checkpoint.parts import Part, Parts

CONTEXTS = [2**power for power in range(7, 21)]


def model() -> str:
    """Draw a list of the chosen model and the released ones; return the option, which `catalogue.load` takes."""
    options = [*([IN_USE] if models.available() else []), *TITLES]
    controls.keep_within("of", options)
    chosen = st.segmented_control(
        "Model", options, default=options[0], required=True, key="of", bind="query-params", format_func=_label,
        help="The model of the sidebar, or a released model as its published configuration describes it.",
    )  # fmt: skip
    return chosen or options[0]


def _label(option: str) -> str:
    return TITLES.get(option) or f"{models.chosen()} (in use)"


def part(parts: "Parts") -> "Part":
    """Draw a list of parts and return the chosen part; a click on the figure chooses too."""
    by_key = {part.key: part for part in parts.all}
    controls.keep_within("part", by_key)
    first = next((number for number, part in enumerate(by_key.values()) if part.kind == "experts"), 0)
    chosen = st.selectbox(
        "Part", list(by_key), first, key="part", bind="query-params", format_func=spelled,
        help="A module of the model with its tensors. The first word is the kind of layer.",
    )  # fmt: skip
    return by_key[chosen]


def spelled(key: str) -> str:
    """Return a part's key as the list and the URL show it."""
    return key.replace("-", " ").replace("_", " ")


def context(parts: "Parts") -> int:
    """Draw a list of context lengths and return the chosen one, the number of earlier tokens that a new token sees."""
    options = [number for number in CONTEXTS if number <= parts.config.max_positions] or CONTEXTS[:1]
    controls.keep_within("context", options)
    meaning = "Earlier tokens that a new token sees; attention costs more with each."
    longest = len(options) - 1
    chosen = st.selectbox(
        "Context", options, index=longest, key="context", bind="query-params", format_func=str, help=meaning
    )
    return chosen or options[-1]


def dtype(parts: "Parts") -> str:
    """Draw a list of dtypes and return the chosen one: the dtype of the stored weights, which sets their bytes."""
    controls.keep_within("bytes", parts.dtypes)
    meaning = "Number format of the weights. The cache takes 2 bytes per number, or 4 with float32."
    return st.selectbox("Weights stored as", parts.dtypes, index=1, key="bytes", bind="query-params", help=meaning)


def painted_layer(trace: Trace | None, model: ShownModel) -> int | None:
    """Draw a list of layers and return the layer whose load colours the experts.

    Return None, and draw nothing, if `model` did not make `trace`, or if the trace has no experts.
    """
    if trace is None or not made(model, trace) or not trace.has("expert_id"):
        return None
    return controls.layer(trace)
