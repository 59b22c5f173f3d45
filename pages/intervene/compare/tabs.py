"""The tabs of the Compare page."""

from typing import Any

import pandas as pd
import streamlit as st

from model.trace import rollout
from model.trace.comparison import CompareError, Comparison
from model.trace.observed_rule import rule_of
from pages.common import controls, session, text
from pages.common.tables import SHARE, THREE
from pages.intervene.compare import tables
from viz import splits as figures


def by_layer(comparison: Comparison, token: int) -> None:
    """Show how far the runs agree in every layer."""
    figure = figures.agreement(comparison.layers, comparison.chance, comparison.num_compared, session.theme())
    how_to_read = (
        "Squares: the share of tokens for which both runs chose exactly the same experts. Circles: the mean Jaccard "
        "index, common experts over all experts of both runs. Dashed: the mean index of two independent fair routers, "
        f"computed exactly. {text.fair(rule_of(comparison.a))} The table gives the 95 % interval of each share "
        "(Wilson, as if tokens were independent)."
    )
    table = tables.by_layer(comparison)
    controls.chart(figure, "compare-layers", table, how_to_read)
    st.dataframe(table, hide_index=True, height="content", placeholder="", column_config=_formats(table))
    st.caption(
        "Δ weight is the difference between A's and B's weight of an expert that both chose; Δ bias is the "
        "difference between its two biases. All are derived from what both traces recorded. A cell is empty where "
        "one of them lacks the numbers."
    )


def _formats(table: pd.DataFrame) -> dict[str, Any]:
    shares = {name: SHARE for name in ("equal sets", "low (95 %)", "high (95 %)") if name in table}
    return {name: THREE for name in table.columns if table[name].dtype.kind == "f"} | shares


def tokens_that_split(comparison: Comparison, token: int) -> None:
    """Show every token whose routing differs; a click on a row chooses its token and layer."""
    table = tables.by_token(comparison)
    if table.empty:
        st.info("No token splits.")
        return

    def choose() -> None:
        rows = (st.session_state.get("compare-tokens") or {}).get("selection", {}).get("rows", [])
        if rows:
            row = table.iloc[rows[0]]
            controls.choose(token=int(row["token"]), layer=int(row["splits first in"][1:]))

    st.dataframe(
        table, hide_index=True, height="content" if len(table) < 12 else 420, key="compare-tokens", on_select=choose,
        selection_mode="single-row", column_config=_formats(table), placeholder="",
    )  # fmt: skip
    st.caption(
        "Where each token first chose other experts. Margin: the score of the last expert chosen minus the score of "
        "the best one that was not, in units of affinity; the smaller of the two runs' margins. Rounding can reverse "
        "a small one. Where B numbers its experts otherwise, A's numbers are shown. Click a row to choose its token."
    )
    controls.download_table(table, "compare-tokens")


def log_probabilities(comparison: Comparison, token: int) -> None:
    """Show how the log-probability of each token changed."""
    difference = tables.with_tokens(comparison, "logprob_difference")
    if difference.isnull().all():
        st.info("One of the traces lacks log-probabilities, or the two have no token after the first in common.")
        return
    table = tables.log_probabilities(comparison)
    figure = figures.logprob_bars(difference, table["text"].tolist(), session.theme(), st.session_state.get("token"))
    how_to_read = (
        "A bar is a token: above 0, B gives it a higher probability than A does, given the text before it. Derived."
    )
    controls.chart(figure, "compare-logprobs", table, how_to_read)


def rollout_and_trainer(comparison: Comparison, token: int) -> None:
    """Show the figures that compare the engine of a rollout with its trainer."""
    try:
        table, about = tables.figures(comparison), rollout.about_documents([comparison])
    except CompareError as error:
        st.info(text.sentence(error))
        return
    st.markdown("How far do the engine that generated a text and the model in training agree on it?")
    st.dataframe(table, hide_index=True, height="content", placeholder="", column_config=_formats(table))
    st.caption(
        f"{text.plain(' '.join(about))} All derived. For many texts, with intervals, limits and a second run of the "
        "same engine that shows its noise: `python -m model compare A B --repeat A2`."
    )
    controls.download_table(table, "compare-rollout")


def one_token(comparison: Comparison, token: int) -> None:
    """Show the experts of both runs for one token, layer by layer."""
    table = tables.of_token(comparison, token)
    if table is None:
        st.info(f"Run B has no token that matches token {token} of run A.")
        return
    st.dataframe(table, hide_index=True, height="content", placeholder="", column_config=_formats(table))
    st.caption(
        "Where B numbers its experts otherwise, A's numbers are shown. Margin: the smaller of the two runs' margins. "
        "All derived."
    )
    controls.download_table(table, "compare-token")


LAYERS, TOKENS, NUMBERS, ONE = "By layer", "Tokens that split", "Log-probabilities", "This token"
ROLLOUT = "Rollout and trainer"
TABS = {
    LAYERS: by_layer, TOKENS: tokens_that_split, NUMBERS: log_probabilities, ONE: one_token,
    ROLLOUT: rollout_and_trainer,
}  # fmt: skip
