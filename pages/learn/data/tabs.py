"""The tabs of the Data page."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.common import controls, limits
from pages.common.tables import SHARE, WHOLE
from pages.common.text import plain
from pages.learn.data import tables
from pages.learn.data.reports import DAMAGED, TRAINING
from viz.curation import size

NOT_SAID = "not said"


def by_stream(name: str, report: dict[str, Any]) -> None:
    """Show each stream's size, dropped share and sampling weight, and the safety labels."""
    table = tables.by_stream(report)
    if name == DAMAGED:
        table = table.drop(columns="sampling weight").rename(columns={"stream": "kind of damage"})
    shares = {column: SHARE for column in ("dropped",)}
    words = {
        table.columns[0]: st.column_config.TextColumn(width=130, pinned=True),
        "sampling weight": st.column_config.NumberColumn(
            format="percent", help="Chance that training draws the stream."
        ),
        "dropped by": st.column_config.TextColumn(width=330, help="Rules, and how many records each dropped."),
    }
    st.dataframe(table, hide_index=True, height=420, column_config=_whole(table) | shares | words, placeholder="")
    if name == TRAINING:
        st.caption(
            "A stream is one kind of text in one language. Training draws it in proportion to the square root of its "
            "size, so it sees small streams more often than their size suggests."
        )
    else:
        st.caption(
            "A row is a kind of damage that the texts are known to have; dropped is the share that the rules found."
        )
    controls.download_table(table, "curation-streams")
    labelled = tables.labelled(report)
    if len(labelled):
        st.markdown("**What was labelled and kept.** A label means that a pattern matched; it drops nothing.")
        st.dataframe(labelled, hide_index=True, height="content", placeholder="")


def _whole(table: pd.DataFrame) -> dict[str, Any]:
    return {column: WHOLE for column in table.columns if column.startswith(("records", "bytes"))}


def examples(name: str, report: dict[str, Any]) -> None:
    """Show up to three dropped texts of a rule, each from a different source."""
    from model.train.data.curation.funnel import reason_of

    rules = tables.rules_with_examples(report)
    controls.keep_within("rule", rules)
    chosen = st.selectbox("Rule", list(rules), key="rule", bind="query-params") if rules else None
    if chosen is None:
        st.caption("Nothing was dropped.")
        return
    rule = rules[chosen]
    st.markdown(f"{reason_of(report, chosen)} {rule['records']:,} texts, {size(rule['bytes'])}.")
    for example in rule["examples"]:
        st.code(example["text"], language=None, wrap_lines=True)
        origin = f"{example['stream']}, {example['source']}, {example['license']}"
        st.caption(f"Measured {example['value']:.3g}; {plain(origin)}; at most the first 200 characters.")


def sources(name: str, report: dict[str, Any]) -> None:
    """Show the sources with their licences, and the files that were read."""
    table = tables.sources(report)
    st.dataframe(table, hide_index=True, height=420, column_config=_whole(table), placeholder="")
    controls.download_table(table, "curation-sources")
    with st.expander("Files that were read, with their SHA-256"):
        st.dataframe(pd.DataFrame(report["files"]), hide_index=True, column_config={"bytes": WHOLE}, placeholder="")


def try_text(name: str, report: dict[str, Any]) -> None:
    """Show the verdict of every rule on a text that the visitor types or pastes."""
    from model.train.data.curation.language import known

    text = st.text_area(
        "Text", key="rules-text", height=180, max_chars=limits.PROMPT_CHARACTERS,
        placeholder="Paste a text and press Ctrl+Enter. It stays on this machine and is stored nowhere.",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        lang = st.selectbox("Its language", [NOT_SAID, *known()], key="rules-lang", bind="query-params")
        is_code = st.toggle(
            "It is code", key="rules-code", bind="query-params", help="Rules for prose are not applied to code."
        )
    if not text.strip():
        st.caption("The table lists every rule: what it measures of the text, its limit, and its verdict.")
    table, outcome, labels = tables.verdicts(text, is_code, lang)
    if text.strip():
        st.markdown(outcome)
        st.markdown(labels)
    st.dataframe(table, hide_index=True, height="content", placeholder="")
    st.caption("Duplicates and held-out text are not checked here: that needs the corpus.")


BY_STREAM, EXAMPLES, SOURCES, TRY = "By stream", "What was dropped", "Sources and licences", "Try a text"
TABS = {BY_STREAM: by_stream, EXAMPLES: examples, SOURCES: sources, TRY: try_text}
