"""What a page says and shows of the importance map: the effect of each expert on one text."""

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from model.trace import shape
from model.trace.trace import Trace
from pages.common import controls, guards, limits, routing_tables, session, tables, text
from pages.intervene.counterfactual import importance_runs
from pages.intervene.counterfactual.choices import NAMES_EXPERTS
from pages.intervene.counterfactual.importance_runs import Map
from viz import importance as figures

ENDS = 8  # experts named at either end of the sorted table
COLUMNS = {
    "change of log-probability (nat a token)": "logprob_change",
    "KL (nat)": "kl",
    "tokens that chose it": "chosen_by",
    "tokens rerouted": "rerouted",
}
CHANGE, KL = list(COLUMNS)[:2]


def show() -> None:
    """The whole tab: what is asked, a button, then the map, its table and the effect against the load."""
    st.markdown(
        "Which experts does this text need? Every expert of every layer is knocked out once, alone, and the model's "
        "predictions are compared with its own before."
    )
    run = session.shown()
    trace = guards.require(run.trace if run else None)
    _remarks(trace)
    bar = st.container(horizontal=True, vertical_alignment="center")
    place = st.empty()
    made = importance_runs.of(trace)
    going = made is not None and made.waiting
    again = made is not None and made.done.is_set() and not made.complete
    bar.button(
        "Start again" if again else "Knock out every expert", on_click=importance_runs.start, args=(trace,),
        disabled=going or (made is not None and made.complete), key="importance-start", icon=":material/play_arrow:",
    )  # fmt: skip
    bar.button("Stop", on_click=importance_runs.stop, disabled=not going, key="importance-stop", icon=":material/stop:")
    if made is None:
        return
    if made.waiting:
        importance_runs.execute(made, place)
        st.rerun()
    if made.error:
        place.error(text.sentence(made.error))
    if made.seen is not None:
        _found(trace, made)


def _remarks(trace: Trace) -> None:
    """What a reader must know of the text before the numbers."""
    used = len(importance_runs.fed(trace))
    if used < trace.num_tokens:
        st.caption(
            f"Only the first {used:,} of {trace.num_tokens:,} tokens are used: that many are the most here "
            f"({limits.IMPORTANCE_TOKENS:,})."
        )
    edits = routing_tables.edits(trace)
    if edits:
        st.info(f"This run was changed ({', '.join(edits)}). The map is of its text on the model without that change.")


def _found(trace: Trace, made: Map) -> None:
    assert made.seen is not None
    seen, effects, groups = made.seen, made.seen.effects, shape.num_groups(trace)
    if not made.complete:
        st.markdown(
            f":orange-badge[stopped] {seen.done:,} of {seen.total:,} experts were knocked out; the rest is blank."
        )
    if st.session_state.get("what") not in NAMES_EXPERTS:  # else the experiment above asks for the expert
        controls.expert(trace)
    table = by_effect(effects)
    st.markdown(verdict(table, seen.num_tokens))
    state = st.session_state
    chosen = None if None in (state.get("layer"), state.get("expert")) else (state["layer"], state["expert"])
    figure = figures.importance_map(effects, groups, session.theme(), seen.num_tokens, chosen)
    said = (
        "A row per mixture layer, the first at the bottom; a column per expert, groups apart. The colour is the mean "
        "change of the log-probability of the text's own tokens when this one expert is knocked out, in nats a token: "
        "below 0 the text is predicted worse without it. Grey is no change; a cross is exactly none, because no "
        "token's routing changed. Colours end where 95 % of the changes lie; hovering says the number. Measured: each "
        "by the model without that expert. The table is sorted, the most missed first. Click a cell."
    )
    controls.chart(figure, "importance", table, said, chooses=("layer", "expert"))
    st.caption(
        f"One text of n = {seen.num_tokens:,} tokens: another text needs other experts. A knock-out says how much the "
        "predictions lean on an expert while all others stay as they are, and not what the expert means; two that can "
        "stand in for each other both look idle. KL is the mean over all positions of KL(original || changed) of the "
        "next token's distribution, in nats."
    )
    _ends(table)
    _against_load(effects, groups, seen.num_tokens, table)


def verdict(table: pd.DataFrame, num_tokens: int) -> str:
    """The most missed expert, and how many change nothing, in a sentence or two."""
    idle = int((table["tokens rerouted"] == 0).sum())
    if table.empty:
        return "Nothing was measured yet."
    first, said = (
        table.iloc[0],
        f"**{idle:,} of {len(table):,} experts change nothing** in this text: no token's routing",
    )
    said += " depends on them."
    if first[CHANGE] >= 0:
        return f"No expert's knock-out makes this text of {num_tokens:,} tokens less likely. {said}"
    return (
        f"**{first['expert']} is missed most**: without it the text loses {-first[CHANGE]:.3g} nats a token "
        f"({first['tokens that chose it']:,} of {num_tokens:,} tokens chose it). {said}"
    )


def by_effect(effects: xr.Dataset) -> pd.DataFrame:
    """A row per expert that was knocked out, the most missed first."""
    layers, number = effects["moe_layer"].values, effects.sizes["expert"]
    table = pd.DataFrame({"layer": np.repeat(layers, number), "number": np.tile(np.arange(number), len(layers))})
    table.insert(0, "expert", [f"L{layer}E{expert}" for layer, expert in table.itertuples(index=False)])
    for name, variable in COLUMNS.items():
        table[name] = effects[variable].values.ravel()
    table["effect"] = np.where(table["tokens rerouted"] == 0, "exactly 0: nothing changed", "measured")
    return table[table[KL].notna()].sort_values([CHANGE, KL], ascending=[True, False], kind="stable")


def _ends(table: pd.DataFrame) -> None:
    """Both ends of the table, side by side."""
    shown = table.drop(columns=["layer", "number", "effect"])
    missed, spared = shown[shown[CHANGE] < 0].head(ENDS), shown[shown[CHANGE] > 0].iloc[::-1].head(ENDS)
    for column, name, rows in zip(
        st.columns(2), ("Missed most", "Text likelier without"), (missed, spared), strict=True
    ):
        column.markdown(f"**{name}**")
        formats = {CHANGE: tables.THREE, KL: tables.THREE}
        column.dataframe(rows, hide_index=True, column_config=formats, height="content")


def _against_load(effects: xr.Dataset, groups: int, num_tokens: int, table: pd.DataFrame) -> None:
    layer = st.session_state.get("layer")
    figure = figures.effect_against_load(effects, groups, session.theme(), num_tokens, layer)
    said = (
        "A point per expert: to the right more tokens chose it, downwards it is missed more; the hue is its group, "
        "and the experts of the chosen layer are filled. Low on the left: rarely used, and it matters all the same. "
        "Measured. Click a point."
    )
    columns = ["expert", "tokens that chose it", CHANGE, KL]
    controls.chart(figure, "importance-load", table[columns], said, chooses=("layer", "expert"))
