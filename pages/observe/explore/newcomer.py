"""A folded paragraph for a visitor who has never heard of experts, with the numbers of the model on show."""

import json

import streamlit as st

from model.checkpoint.embedded import embedded_models, find_model
from model.trace.observed_rule import rule_of
from model.trace.trace import Trace
from pages.common import text

_WORDS = (
    "A language model reads a text in pieces, the **tokens**: a word, a part of a word, or a punctuation mark. Layers "
    "work on the tokens one after the other. In a layer with **experts**, many small networks stand side by side, and "
    "each token goes to only a few of them. The **router** of the layer chooses these: it gives every expert a score "
    "for the token, and takes the experts with the best scores. In some models the experts form **groups**; there the "
    "router first keeps a few groups and then chooses within them. The **load** of an expert is the number of tokens "
    "that go to it; the page compares it with a fair share, the number that each expert would get if all got equally "
    "many."
)


def paragraph(trace: Trace | None) -> None:
    """Draw the folded paragraph.

    Args:
        trace: trace of the run on show, whose model's numbers end the paragraph; None: no run is on show.
    """
    with st.expander("New to experts? The words of this page", icon=":material/school:"):
        st.markdown(_WORDS)
        if trace is not None:
            st.markdown(" ".join([*numbers(trace), *toy(trace)]))


def numbers(trace: Trace) -> list[str]:
    """Return a sentence on the experts of the model on show; nothing if the trace does not state them."""
    rule, layers = rule_of(trace), len(trace.shape.moe_layers)
    if not (rule.top_k and layers and trace.shape.num_experts):
        return []
    groups = f" in {rule.num_groups} groups" if rule.num_groups > 1 else ""
    name = text.plain(trace.model.get("name") or "The model on show", 80)
    goes = f"a token goes to {rule.top_k} of them in each"
    return [f"{name} has {layers} such layers of {rule.num_experts} experts{groups}, and {goes}."]


def toy(trace: Trace) -> list[str]:
    """Return sentences on the size of an embedded model; nothing for any other model."""
    name = trace.model.get("name")
    if name not in embedded_models():
        return []
    size = f"{_parameters(str(name)) / 1e6:.0f} M parameters"
    return [f"It is a toy of {size}, and its text is often nonsense. It chooses experts by the rule of DeepSeek-V3."]


@st.cache_data(show_spinner=False)
def _parameters(name: str) -> int:
    """Return the number of parameters of an embedded model, from the headers of its files."""
    from model.checkpoint import stored_parameters
    from model.checkpoint.names import mtp_prefix
    from model.network.config import ModelConfig

    folder = find_model(name)
    config = ModelConfig.from_json(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    return stored_parameters.count(folder, mtp_prefix(config))[0]
