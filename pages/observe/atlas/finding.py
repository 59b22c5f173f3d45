"""The tab that searches a sweep for a word, a label or an expert."""

import streamlit as st

from model.atlas.folder import Sweep
from model.atlas.search import Matches, search
from pages.common import controls, text
from pages.observe.atlas import texts

MOST_BUTTONS = 12


def show(sweep: Sweep, kind: str | None, layer: int, expert: int) -> None:
    """Draw the search field and what it finds."""
    query = st.text_input(
        "Word, label or expert", key="find", bind="query-params", max_chars=80,
        placeholder="wolf, code or L3E17",
    )  # fmt: skip
    if not query:
        st.caption("A word is looked up among the experts' most frequent tokens and in the examples.")
        return
    matches = search(sweep, query)
    if matches.empty:
        st.info(f"Nothing in this sweep matches “{text.plain(query, 60)}”. {_why(sweep)}")
        return
    _experts(matches)
    _labels(matches)
    if len(matches.tokens):
        st.markdown(
            "**Tokens.** How often a token chose an expert, of all its occurrences in the corpus (measured). Click a "
            "row to choose its expert."
        )
        texts.tokens(matches.tokens, "atlas-found-tokens")
    if len(matches.examples):
        st.markdown("**Texts** that hold these words, each with a token that chose the expert (measured).")
        texts.examples(sweep, matches.examples, "atlas-found-texts")


def _why(sweep: Sweep) -> str:
    if sweep.tokens is None:
        return "It holds no tokens, so words cannot be found; its source did not give them."
    return "Only the tokens that an expert took most often are kept, and words of several tokens are found in examples."


def _experts(matches: Matches) -> None:
    if not matches.experts:
        return
    with st.container(horizontal=True):
        for layer, expert in matches.experts[:MOST_BUTTONS]:
            st.button(
                f"L{layer}E{expert}", key=f"find-L{layer}E{expert}", on_click=controls.choose,
                kwargs={"layer": layer, "expert": expert, "part": "One expert"},
            )  # fmt: skip


def _labels(matches: Matches) -> None:
    if not matches.labels:
        return
    with st.container(horizontal=True):
        for kind, label in matches.labels[:MOST_BUTTONS]:
            st.button(
                f"{kind}: {text.plain(label, 40)}", key=f"find-{kind}-{label}", on_click=controls.choose,
                kwargs={"by": kind, "label": label},
            )  # fmt: skip
