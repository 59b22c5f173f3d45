"""The overview above the tabs of the Compare page: the verdict, the marked text, and the map of splits.

A split is a layer in which a token has different experts in the two runs (`model/trace/comparison.py`).
"""

import streamlit as st

from model.trace import comparison_report as report
from model.trace.comparison import VERDICTS, CompareError, Comparison, compare
from model.trace.trace import Trace
from pages.common import controls, guards, results, session, text
from pages.intervene.compare import tables
from viz import splits as figures


def compared(a: Trace | None, b: Trace | None) -> Comparison:
    """Return the comparison of two traces, computed once per pair; end the page if it cannot be made."""
    if a is None or b is None:
        guards.stop_with("Choose two runs above. Nothing is compared yet.")
    cached = st.session_state.get("comparison")
    if cached is None or cached.a is not a or cached.b is not b:
        try:
            cached = compare(a, b)
        except CompareError as error:
            guards.stop_with(f"These two cannot be compared: {text.plain(error)}.")
        st.session_state["comparison"] = cached
    results.put("comparison", id(cached), cached)
    return cached


def verdict(comparison: Comparison) -> None:
    """Show the names of both runs, and a verdict on how their routing differs."""
    st.caption("  \n".join(_described(side, trace) for side, trace in (("A", comparison.a), ("B", comparison.b))))
    first, *others = report.verdict(comparison)
    st.markdown(f"**{text.plain(first)}**", help=f"Derived; n = {comparison.num_compared:,} choices of experts.")
    if others:
        st.markdown("\n".join(f"- {text.plain(sentence)}" for sentence in others))


def _described(side: str, trace: Trace) -> str:
    name, origin = str(trace.model.get("name"))[:80], trace.origin
    where = f"{origin.get('kind')} on {origin.get('device')}, {origin.get('dtype')}, by {origin.get('engine')}"
    return f"{side}: {text.plain(f'{name}, {where[:120]}')}, {trace.num_tokens:,} tokens"


def both(comparison: Comparison) -> str:
    """Return the names of both models, and the first words of A."""
    names = " and ".join(str(trace.model.get("name") or "a model")[:80] for trace in (comparison.a, comparison.b))
    return f"{names}, {text.beginning(comparison.a)}"


def strip(comparison: Comparison, token: int) -> None:
    """Show the text of run A; mark each token by the kind of its first split, that of the lowest layer."""
    kinds, hover = _kinds(comparison)
    body = figures.strip(comparison.a.tokens, comparison.a.text, kinds, hover, token)
    st.html(f"<style>{figures.css(session.theme())}</style>{body}{figures.legend(kinds)}")


def _kinds(comparison: Comparison) -> tuple[list[str], list[str]]:
    """Return the kind of the first split of each token of run A, and the tokens' hover texts."""
    number = comparison.a.num_tokens
    kinds = [figures.UNALIGNED] * number
    hover = [f"token {token}: {figures.WORDS[figures.UNALIGNED]}" for token in range(number)]
    for split in report.first_splits(comparison):
        kinds[split.token] = split.verdict
        where = "" if split.layer is None else f", first in L{split.layer}"
        partner = f"token {split.token} of A, {split.token_b} of B"
        hover[split.token] = f"{partner}: {figures.WORDS[split.verdict]}{where}"
    return kinds, hover


def split_map(comparison: Comparison, token: int, layer: int) -> None:
    """Show the main figure: a map of every token and layer, which shows whether it is a split, and of which kind."""
    labels = [text.token(comparison.a, paired) for paired in comparison.alignment.pairs[:, 0].tolist()]
    verdicts = tables.with_tokens(comparison, "verdict")
    figure = figures.split_map(verdicts, VERDICTS, labels, session.theme(), (token, layer))
    how_to_read = (
        "A row is a MoE layer, the first at the bottom; a column is a token of A that B has too. Grey: both runs "
        "chose the same experts. Green, a near tie: the experts differ, but in both runs rounding could exchange all "
        "of those that differ. Purple, a change: the experts differ by more than rounding explains, and neither the "
        "text up to the token nor the routing in a lower layer differs. Light purple, follows: the experts differ, "
        "but the text or the routing in a lower layer differs too, which may be the reason. Click a cell to choose "
        "its token and layer."
    )
    table = tables.by_token(comparison)
    controls.chart(figure, "compare-splits", table, how_to_read, chooses=("token", "layer"))
