"""What the Compare page says and shows of two traces."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from model.trace import comparison_report as report
from model.trace.compare import VERDICTS, CompareError, Comparison, compare
from model.trace.trace import Trace
from pages.common import controls, guards, session, tables, text
from viz import compare as figures

LAYERS, TOKENS, NUMBERS, ONE = TABS = ("By layer", "Tokens that split", "Log-probabilities", "This token")


def compared(a: Trace | None, b: Trace | None) -> Comparison:
    """The comparison, made once per pair; ends the page when there is none."""
    if a is None or b is None:
        guards.stop_with("Choose two runs above. Nothing is compared yet.")
    kept = st.session_state.get("comparison")
    if kept is None or kept.a is not a or kept.b is not b:
        try:
            kept = compare(a, b)
        except CompareError as problem:
            guards.stop_with(f"These two cannot be compared: {text.plain(problem)}.")
        st.session_state["comparison"] = kept
    return kept


# --- words -----------------------------------------------------------------------------------------------------------


def verdict(found: Comparison) -> None:
    """Which two runs, and the answer in sentences."""
    st.caption("  \n".join(_described(side, trace) for side, trace in (("A", found.a), ("B", found.b))))
    first, *others = report.verdict(found)
    st.markdown(f"**{text.plain(first)}**", help=f"Derived; n = {found.num_compared:,} choices of experts.")
    if others:
        st.markdown("\n".join(f"- {text.plain(said)}" for said in others))


def _described(side: str, trace: Trace) -> str:
    name, origin = str(trace.model.get("name"))[:80], trace.origin
    where = f"{origin.get('kind')} on {origin.get('device')}, {origin.get('dtype')}, by {origin.get('engine')}"
    return f"{side}: {text.plain(f'{name}, {where[:120]}')}, {trace.num_tokens:,} tokens"


# --- figures ---------------------------------------------------------------------------------------------------------


def strip(found: Comparison, token: int) -> None:
    """The text of A, marked where its routing splits from B's."""
    kinds, hover = _kinds(found)
    look = session.theme()
    body = figures.strip(found.a.tokens, found.a.text, kinds, hover, token)
    st.html(f"<style>{figures.css(look)}</style>{body}{figures.legend(kinds)}")


def _kinds(found: Comparison) -> tuple[list[str], list[str]]:
    """What became of each token of A, and the same in words."""
    kinds, first = [figures.UNALIGNED] * found.a.num_tokens, found.first_split
    hover = [f"token {token}: {figures.WORDS[figures.UNALIGNED]}" for token in range(found.a.num_tokens)]
    verdicts, layers = found.choices["verdict"].values, found.choices["moe_layer"].values
    for pair, (token, other) in enumerate(found.alignment.pairs.tolist()):
        place = int(first[pair])
        unknown = (verdicts[pair] == VERDICTS.index(figures.UNKNOWN)).all()
        kinds[token] = VERDICTS[verdicts[pair, place]] if place >= 0 else figures.UNKNOWN if unknown else figures.SAME
        where = f", first in L{layers[place]}" if place >= 0 else ""
        hover[token] = f"token {token} of A, {other} of B: {figures.WORDS[kinds[token]]}{where}"
    return kinds, hover


def split_map(found: Comparison, token: int, layer: int) -> None:
    """The main figure: every choice of every token."""
    figure = figures.split_map(
        _with_tokens(found, "verdict"), VERDICTS, _labels(found), session.theme(), (token, layer)
    )
    said = (
        "A row per mixture layer, the first at the bottom; a column per token of A that B has too. Grey: the same "
        "experts. Green: another set, by a margin that rounding can turn. Purple: another set by a wide margin, with "
        "nothing different before it; light purple: after something else had split, which may be why. Click a cell."
    )
    controls.chart(figure, "compare-splits", tokens_table(found), said, chooses=("token", "layer"))


def _with_tokens(found: Comparison, name: str) -> xr.DataArray:
    return found.choices[name].assign_coords(token=("pair", found.alignment.pairs[:, 0]))


def _labels(found: Comparison) -> list[str]:
    return [text.token(found.a, token) for token in found.alignment.pairs[:, 0].tolist()]


def about(name: str, found: Comparison, token: int) -> None:
    """Fill the tab of that name."""
    {LAYERS: by_layer, TOKENS: tokens, NUMBERS: numbers}.get(name, lambda found: one_token(found, token))(found)


def by_layer(found: Comparison) -> None:
    """Agreement and differences of every layer."""
    figure = figures.agreement(found.layers, found.chance, found.num_compared, session.theme())
    said = (
        "Squares: the share of tokens that took exactly the same experts. Circles: the mean Jaccard index, common "
        "experts over all experts of both. Dashed: the index that two independent fair routers give (exact). The table "
        "has the 95 % interval of each share (Wilson, as if tokens were independent)."
    )
    table = layer_table(found)
    controls.chart(figure, "compare-layers", table, said)
    st.dataframe(table, hide_index=True, height="content", placeholder="", column_config=_formats(table))
    st.caption(
        "Δ is the difference between A and B: of the weights of experts that both took, and of an expert's bias. All "
        "derived from what both traces recorded; what one of them does not hold is left empty."
    )


def _formats(table: pd.DataFrame) -> dict[str, Any]:
    shares = {name: tables.SHARE for name in ("equal sets", "low (95 %)", "high (95 %)") if name in table}
    return {name: tables.THREE for name in table.columns if table[name].dtype.kind == "f"} | shares


def layer_table(found: Comparison) -> pd.DataFrame:
    """A row per layer."""
    rows = pd.DataFrame(report.layer_rows(found))
    names = {
        "layer": "layer", "choices": "choices", "equal": "equal sets", "equal_low": "low (95 %)",
        "equal_high": "high (95 %)", "jaccard": "Jaccard",
        "weight_mean": "Δ weight, mean", "weight_difference": "Δ weight, most", "bias_difference": "Δ bias, most",
    }  # fmt: skip
    table = rows.rename(columns=names).astype({said: float for said in list(names.values())[2:]})
    if found.chance is not None:
        table.insert(table.columns.tolist().index("Jaccard") + 1, "Jaccard by chance", found.chance.jaccard)
    counts = [name for name in VERDICTS if not rows[name].to_numpy().any()]
    return table.drop(columns=counts)


def tokens_table(found: Comparison) -> pd.DataFrame:
    """A row per token that splits."""
    rows = report.token_rows(found)
    return pd.DataFrame(
        {
            "token": [row["token"] for row in rows],
            "in B": [row["token_b"] for row in rows],
            "text": [text.token(found.a, row["token"]) for row in rows],
            "splits first in": [f"L{row['layer']}" for row in rows],
            "which is": [row["verdict"] for row in rows],
            "margin": np.array([row["margin"] for row in rows], float),
            "only A": [_experts(row["only_a"]) for row in rows],
            "only B": [_experts(row["only_b"]) for row in rows],
            "layers split": [row["layers_split"] for row in rows],
            "log-probability, B - A (nat)": np.array([row["logprob_difference"] for row in rows], float),
        }
    )


def _experts(numbers: list[int]) -> str:
    return ", ".join(f"E{number}" for number in numbers)


def tokens(found: Comparison) -> None:
    """Every token that splits; a row that is chosen is the token."""
    rows = tokens_table(found)
    if rows.empty:
        st.info("No token splits.")
        return

    def choose() -> None:
        chosen = (st.session_state.get("compare-tokens") or {}).get("selection", {}).get("rows", [])
        if chosen:
            controls.choose(
                token=int(rows["token"].iloc[chosen[0]]), layer=int(rows["splits first in"].iloc[chosen[0]][1:])
            )

    st.dataframe(
        rows, hide_index=True, height="content" if len(rows) < 12 else 420, key="compare-tokens", on_select=choose,
        selection_mode="single-row", column_config=_formats(rows), placeholder="",
    )  # fmt: skip
    st.caption(
        "Where each token first took other experts. Margin: the narrowest by which either run chose, in units of "
        "affinity; rounding turns small ones. Experts carry the numbers of A. Choose a row to choose the token."
    )
    controls.download_table(rows, "compare-tokens")


def numbers(found: Comparison) -> None:
    """How the log-probabilities of the tokens moved."""
    difference = _with_tokens(found, "logprob_difference")
    if not np.isfinite(difference.values).any():
        st.info("One of the traces does not hold log-probabilities, or they have no token after the first in common.")
        return
    figure = figures.logprob_bars(difference, _labels(found), session.theme(), st.session_state.get("token"))
    table = pd.DataFrame(
        {
            "token": difference["token"].values,
            "text": _labels(found),
            "A (nat)": found.a.data["logprob"].values[found.alignment.pairs[:, 0]],
            "B (nat)": found.b.data["logprob"].values[found.alignment.pairs[:, 1]],
            "B - A (nat)": difference.values,
        }
    )
    said = "A bar per token: above 0, B finds the token likelier than A does, given the text before it. Derived."
    controls.chart(figure, "compare-logprobs", table, said)


def one_token(found: Comparison, token: int) -> None:
    """Both sides' experts for one token, layer by layer."""
    pair = np.flatnonzero(found.alignment.pairs[:, 0] == token)
    if not pair.size:
        st.info(f"B has no token that stands for token {token} of A.")
        return
    at, rows = found.choices.isel(pair=int(pair[0])), []
    for place, layer in enumerate(found.choices["moe_layer"].values.tolist()):
        taken_a, taken_b = report.experts_at(found, int(pair[0]), layer)
        rows.append(
            {
                "layer": layer,
                "both": _experts(sorted(taken_a & taken_b)),
                "only A": _experts(sorted(taken_a - taken_b)),
                "only B": _experts(sorted(taken_b - taken_a)),
                "which is": VERDICTS[int(at["verdict"][place])],
                "margin": float(at["margin"][place]),
                "Δ weight, most": float(at["weight_difference"][place]),
            }
        )
    table = pd.DataFrame(rows)
    st.dataframe(table, hide_index=True, height="content", placeholder="", column_config=_formats(table))
    st.caption("Experts carry the numbers of A. Margin: the narrowest by which either run chose. All derived.")
    controls.download_table(table, "compare-token")
