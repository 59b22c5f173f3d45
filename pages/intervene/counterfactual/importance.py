"""The tab of the importance map: the effect of each expert on one text."""

import pandas as pd
import streamlit as st
import xarray as xr

from model.trace.importance import consequential, summarise
from model.trace.observed_rule import rule_of
from model.trace.router_rule import RouterRule
from model.trace.trace import Trace
from pages.common import controls, guards, limits, session, text
from pages.common.tables import THREE
from pages.intervene.counterfactual import importance_runs
from pages.intervene.counterfactual.choices import NAMES_EXPERTS
from pages.intervene.counterfactual.importance_runs import ImportanceJob
from viz import importance as figures

ENDS = 8  # rows shown from each end of the sorted table
COLUMNS = {
    "change of log-probability (nat per token)": "logprob_change",
    "KL (nat)": "kl",
    "tokens that chose it": "chosen_by",
    "tokens rerouted": "rerouted",
}
CHANGE, KL = list(COLUMNS)[:2]


def show() -> None:
    """Draw the tab: its question and buttons, the map with its table, and a chart of effect against load."""
    st.markdown(
        "Which experts does this text need? The model runs once without each expert, and its predictions are compared "
        "with those of the whole model."
    )
    run = session.shown()
    trace = guards.require(run.trace if run else None)
    _remarks(trace)
    buttons, placeholder = st.container(horizontal=True, vertical_alignment="center"), st.empty()
    job = importance_runs.of(trace)
    going = job is not None and job.waiting
    is_partial = job is not None and job.done.is_set() and not job.complete
    buttons.button(
        "Start again" if is_partial else "Knock out every expert", on_click=importance_runs.start, args=(trace,),
        disabled=going or (job is not None and job.complete), key="importance-start", icon=":material/play_arrow:",
        help="A knocked-out expert is never chosen; the next best takes its place.",
    )  # fmt: skip
    buttons.button(
        "Stop", on_click=importance_runs.stop, disabled=not going, key="importance-stop", icon=":material/stop:"
    )
    if job is None:
        return
    if job.waiting:
        importance_runs.execute(job, placeholder)
        st.rerun()
    if job.error:
        placeholder.error(text.sentence(job.error))
    _map(trace, job)


def _remarks(trace: Trace) -> None:
    """Show notes if the map uses only the first tokens of the text, or if the run had interventions."""
    used = len(importance_runs.used_tokens(trace))
    if used < trace.num_tokens:
        st.caption(
            f"Only the first {used:,} of {trace.num_tokens:,} tokens are used; the map takes at most "
            f"{limits.IMPORTANCE_TOKENS:,}."
        )
    if trace.origin.get("engine") == "transformers":
        runs = len(consequential(trace))
        st.caption(f"{runs:,} experts can change this run; each is one run of the model over {used:,} tokens.")
    edits = text.edits(trace)
    if edits:
        st.info(
            f"This run was changed ({', '.join(edits)}). The map uses the text of this run and the model without "
            "the change."
        )


def _map(trace: Trace, job: ImportanceJob) -> None:
    """Show the map as far as it is computed, with verdict and table; nothing before the first batch."""
    importance, rule = job.importance, rule_of(trace)
    if importance is None:
        return
    if not job.complete:
        st.markdown(
            f":orange-badge[stopped] {importance.done:,} of {importance.total:,} experts were knocked out; the rest is "
            "blank."
        )
    if st.session_state.get("what") not in NAMES_EXPERTS:  # the other kinds of experiment do not choose an expert
        controls.expert(trace)
    table = by_effect(importance.effects)
    st.markdown(verdict(importance.effects, importance.num_tokens))
    state = st.session_state
    chosen = None if None in (state.get("layer"), state.get("expert")) else (state["layer"], state["expert"])
    figure = figures.importance_map(importance.effects, rule, session.theme(), importance.num_tokens, chosen)
    how_to_read = (
        "A row is a MoE layer, the first at the bottom; a column is an expert, with gaps between groups. The colour is "
        "the mean change of the log-probability of the text's own tokens when this one expert is knocked out, in nats "
        "per token: below 0 the model predicts the text worse without it. Grey is no change; a cross is exactly none, "
        "because no token's routing changed. The colour scale covers 95 % of the changes; hover for the number. "
        "Measured: one run of the model without each expert. The table lists the most missed expert first. Click a "
        "cell to choose its layer and expert."
    )
    controls.chart(figure, "importance", table, how_to_read, chooses=("layer", "expert"))
    st.caption(
        f"One text of n = {importance.num_tokens:,} tokens: another text needs other experts. A knock-out shows how "
        "much the predictions depend on an expert while all others stay as they are. It does not show what the expert "
        "means, and two experts that can replace each other both look idle. KL is the mean over all positions of "
        "KL(original || changed) of the next token's distribution, in nats."
    )
    _ends(table)
    _against_load(importance.effects, rule, importance.num_tokens, table)


def verdict(effects: xr.Dataset, num_tokens: int) -> str:
    """Return sentences on the expert that the text needs most, and on how many experts change nothing."""
    summary = summarise(effects)
    if summary is None:
        return "Nothing was measured yet."
    idle = (
        f"**{summary.num_idle:,} of {summary.num_measured:,} experts change nothing** in this text: no token's routing "
        "depends on them."
    )
    if summary.logprob_change >= 0:
        return f"No expert's knock-out makes this text of {num_tokens:,} tokens less probable. {idle}"
    return (
        f"**L{summary.layer}E{summary.expert} is missed most**: without it the text loses "
        f"{-summary.logprob_change:.3g} nats per token ({summary.chosen_by:,} of {num_tokens:,} tokens chose it). "
        f"{idle}"
    )


def by_effect(effects: xr.Dataset) -> pd.DataFrame:
    """Return a table with a row per expert that was knocked out; the expert that the text needs most comes first."""
    cells = effects[list(COLUMNS.values())].to_dataframe().reset_index()
    table = cells.rename(columns={variable: name for name, variable in COLUMNS.items()})
    table = table.rename(columns={"moe_layer": "layer", "expert": "number"})
    table = pd.DataFrame(table, columns=["layer", "number", *COLUMNS])
    names = [f"L{layer}E{number}" for layer, number in zip(table["layer"], table["number"], strict=True)]
    table.insert(0, "expert", names)
    table["effect"] = ["exactly 0: nothing changed" if count == 0 else "measured" for count in table["tokens rerouted"]]
    return table.dropna(subset=[KL]).sort_values([CHANGE, KL], ascending=[True, False], kind="stable")


def _ends(table: pd.DataFrame) -> None:
    """Show the first and the last rows of the table side by side."""
    rows = table.drop(columns=["layer", "number", "effect"])
    ends = {
        "Missed most": rows[rows[CHANGE] < 0].head(ENDS),
        "Text more probable without": rows[rows[CHANGE] > 0].iloc[::-1].head(ENDS),
    }
    for column, (name, end) in zip(st.columns(2), ends.items(), strict=True):
        column.markdown(f"**{name}**")
        column.dataframe(
            end, hide_index=True, column_config={CHANGE: THREE, KL: THREE}, height="content", placeholder=""
        )


def _against_load(effects: xr.Dataset, rule: RouterRule, num_tokens: int, table: pd.DataFrame) -> None:
    layer = st.session_state.get("layer")
    figure = figures.effect_against_load(effects, rule, session.theme(), num_tokens, layer)
    how_to_read = (
        "A point is an expert. Further right, more tokens chose it; further down, it is missed more. The hue is its "
        "group; the experts of the chosen layer are filled. A point low on the left is rarely used and still matters. "
        "Measured. Click a point to choose its layer and expert."
    )
    columns = ["expert", "tokens that chose it", CHANGE, KL]
    controls.chart(
        figure, "importance-load", pd.DataFrame(table, columns=columns), how_to_read, chooses=("layer", "expert")
    )
