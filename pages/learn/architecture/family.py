"""A model that transformers runs: its facts as a table, because its parts are not drawn."""

from pathlib import Path

import pandas as pd
import streamlit as st

from model.checkpoint.embedded import name_of
from model.trace.trace import Trace
from pages.common import models, text
from pages.learn.architecture.catalogue import IN_USE, is_v4


def folder_of(option: str) -> Path | None:
    """Return the chosen model's folder if the page has no figure of its family; else None."""
    from model.network.config import MODEL_TYPES

    if option != IN_USE:
        return None
    folder = models.available()[models.chosen()]
    published = models.config(folder)
    is_drawn = not published or published.get("model_type") in MODEL_TYPES or is_v4(published)
    return None if is_drawn else folder


def show(folder: Path, trace: Trace | None) -> None:
    """Show the facts of a family, and how its router decides if the run on show has found that.

    Raises:
        ValueError: the folder cannot be opened; one line says why.
    """
    name = text.plain(models.chosen(), 80)
    st.markdown(
        f"**{name}** is run by transformers. The figure of parts, formulas and costs exists for DeepSeek's families "
        "only (V2 to V4, Kimi K2, GLM with DSA); choose a released one above to see it. These are the facts of this "
        "folder, from its configuration and the headers of its files."
    )
    with models.path_hidden(folder):
        st.table(table(_lines(folder)), hide_index=True)
    if trace is not None and trace.router is not None and trace.model.get("name") == name_of(folder):
        st.markdown(f"The run on show found this rule of its router: {rule_in_words(trace)}")


@st.cache_data(show_spinner="Reading the folder's configuration and headers", max_entries=64)
def _lines(folder: Path) -> list[str]:
    from model.cli.family_report import family_report
    from model.families.facts import facts_of

    return family_report(facts_of(folder, most_seconds=60), folder)


def table(lines: list[str]) -> pd.DataFrame:
    """Return the lines of `python -m model info` as a table. A line without a name continues the one before.

    >>> table(["width        64", "             and 32"]).to_dict("list")
    {'fact': ['width'], 'value': ['64 and 32']}
    """
    rows: list[tuple[str, str]] = []
    for line in lines:
        name, value = line[:13].strip(), line[13:]
        if name or not rows:
            rows.append((name, value))
        else:
            rows[-1] = (rows[-1][0], f"{rows[-1][1]} {value}")
    return pd.DataFrame(rows, columns=["fact", "value"])


def rule_in_words(trace: Trace) -> str:
    """Return the rule of the router that a run found, in a sentence; where it found none, the reason."""
    assert trace.router is not None
    rule, note = trace.router.rule, trace.router.note
    if rule is None:
        return f"none{f' ({text.plain(note, 200)})' if note else ''}."
    groups = f", from {rule.num_kept_groups} kept of {rule.num_groups} groups" if rule.num_groups > 1 else ""
    bias = f" plus a bias on the {'logits' if rule.bias_on_logits else 'affinities'}" if rule.has_selection_bias else ""
    sums = ", divided by their sum" if rule.normalise_weights else ""
    factor = ", times a factor per expert" if rule.has_expert_factor else ""
    scale = f", times {rule.routed_scale:g}" if rule.routed_scale not in (None, 1) else ""
    layers = trace.router.table_layers
    named = ", ".join(f"L{layer}" for layer in layers)
    tables = f" In {named} a table gives the experts of each token id." if layers else ""
    return (
        f"affinities are the {rule.scoring} of the logits{bias}; the best {rule.top_k}{groups} are chosen. The weights "
        f"are their affinities{sums}{factor}{scale}.{tables}"
    )
