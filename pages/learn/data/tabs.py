"""What the page on the data says and shows."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.common import controls, limits, models, session, tables
from pages.common.text import plain
from pages.learn.data import tables as data_tables
from viz.curation import kept_and_dropped, size

REPORTS = models.PRESETS / "curation"
TRAINING, DAMAGED = FILES = ("Training text", "Damaged texts")
BY_STREAM, EXAMPLES, SOURCES, TRY = TABS = ("By stream", "What was dropped", "Sources and licences", "Try a text")
NOT_SAID = "not said"


@st.cache_data(show_spinner=False)
def _read(folder: Path) -> dict[str, Any]:
    names = dict(zip(FILES, ("report.json", "noisy.json"), strict=True))
    return {name: json.loads((folder / file).read_text(encoding="utf-8")) for name, file in names.items()}


def reports() -> dict[str, Any]:
    """The two reports that come along, by name, as the command wrote them."""
    return _read(REPORTS)


def choose() -> str:
    """Choose which of them is shown."""
    said = "Damaged texts are a test: every one was made or chosen to be dropped."
    return st.segmented_control(
        "Report", FILES, default=TRAINING, required=True, key="report", bind="query-params", help=said
    )


def summary(name: str, report: dict[str, Any]) -> str:
    """The report in a few sentences."""
    came, went = report["in"], report["out"]
    share = data_tables.share_dropped(report)
    if name == TRAINING:
        return (
            f"**{size(came['bytes'])} in {came['records']:,} texts** of {len(report['streams'])} streams and "
            f"{len(report['sources'])} sources came in; **{share:.2%} of the texts** were dropped and "
            f"{size(went['bytes'])} kept. The corpus had been cleaned once before it came here, so that little is left "
            "to find. `mini-v3` was trained on text drawn from what came in, before these steps existed."
        )
    return (
        f"**{share:.1%} of {came['records']:,} texts** that are damaged, or no text at all, were found; "
        f"{went['records']:,} were not. The limits were set while looking at these same texts, so other damage will be "
        "found less often. Words in a wrong order are found by no rule."
    )


def picture(report: dict[str, Any]) -> None:
    """The main figure: kept and dropped by step and rule."""
    rows = data_tables.by_rule(report)
    said = (
        "From the top down, as the texts pass. Left: the bytes that went on. Right: the bytes that were dropped, on a "
        "logarithmic scale, with how many texts. A text is dropped by the first rule that it breaks. Measured."
    )
    table = rows.rename(columns={"kept": "bytes kept", "dropped": "bytes dropped", "records": "records dropped"})
    controls.chart(kept_and_dropped(rows, session.theme()), "curation", table, said)


# --- below -----------------------------------------------------------------------------------------------------------


def about(tab: str, name: str, report: dict[str, Any]) -> None:
    """Fill the tab of that name."""
    if tab == BY_STREAM:
        by_stream(name, report)
    elif tab == EXAMPLES:
        examples(report)
    elif tab == SOURCES:
        sources(report)
    else:
        try_text()


def by_stream(name: str, report: dict[str, Any]) -> None:
    """Sizes, what was dropped, and how often each stream is drawn."""
    table = data_tables.by_stream(report)
    if name == DAMAGED:
        table = table.drop(columns="sampling weight").rename(columns={"stream": "kind of damage"})
    whole = {column: tables.WHOLE for column in table.columns if column.startswith(("records", "bytes"))}
    shares = {column: tables.SHARE for column in ("dropped", "sampling weight")}
    words = {
        table.columns[0]: st.column_config.TextColumn(width=130, pinned=True),
        "dropped by": st.column_config.TextColumn(width=330, help="Rules, and how many records each dropped."),
    }
    st.dataframe(table, hide_index=True, height=420, column_config=whole | shares | words)
    said = (
        "A stream is drawn with the square root of its size, so that small ones are seen more often than their share."
    )
    st.caption(
        said if name == TRAINING else "One row for each label that the texts came with; dropped is what was found."
    )
    controls.download_table(table, "curation-streams")
    labelled = data_tables.labelled(report)
    if len(labelled):
        st.markdown("**What was labelled and kept.** A label is a pattern's word, not a judgement, and drops nothing.")
        st.dataframe(labelled, hide_index=True, height="content")


def examples(report: dict[str, Any]) -> None:
    """Up to three texts for a rule, each from another source."""
    rules = data_tables.rules_with_examples(report)
    controls.keep_within("rule", rules)
    chosen = st.selectbox("Rule", list(rules), key="rule", bind="query-params") if rules else None
    if chosen is None:
        st.caption("Nothing was dropped.")
        return
    rule = rules[chosen]
    st.markdown(f"{data_tables.reason_of(report, chosen)} {rule['records']:,} texts, {size(rule['bytes'])}.")
    for example in rule["examples"]:
        st.code(example["text"], language=None, wrap_lines=True)
        origin = f"{example['stream']}, {example['source']}, {example['license']}"
        st.caption(f"measured {example['value']:.3g}; {plain(origin)}; the first 200 characters at most")


def sources(report: dict[str, Any]) -> None:
    """Where the texts are from, under which licence, and the files that were read."""
    table = data_tables.sources(report)
    columns = {column: tables.WHOLE for column in table.columns if column.startswith(("records", "bytes"))}
    st.dataframe(table, hide_index=True, height=420, column_config=columns)
    controls.download_table(table, "curation-sources")
    with st.expander("Files that were read, with their SHA-256"):
        st.dataframe(pd.DataFrame(report["files"]), hide_index=True, column_config={"bytes": tables.WHOLE})


def try_text() -> None:
    """What every rule says of a text that one types or pastes."""
    from model.train.data.curation.language import known

    text = st.text_area(
        "Text", key="rules-text", height=180, max_chars=limits.PROMPT_CHARACTERS,
        placeholder="Paste a text and press Ctrl+Enter. It stays on this machine and is kept nowhere.",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        lang = st.selectbox("Its language", [NOT_SAID, *known()], key="rules-lang", bind="query-params")
        is_code = st.toggle(
            "It is code", key="rules-code", bind="query-params", help="Rules for prose are not applied to code."
        )
    if not text.strip():
        st.caption("Every rule is listed here with what it measures of the text, its limit, and what it says.")
    table, said, labels = data_tables.verdicts(text, is_code, lang)
    if text.strip():
        st.markdown(said)
        st.markdown(labels)
    st.dataframe(table, hide_index=True, height="content")
    st.caption("Duplicates and held-out text are not looked for here: they need the corpus.")
