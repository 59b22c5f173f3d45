"""The tab of checks: whether shuffled labels are called too, and whether two halves of the corpus agree."""

from statistics import median

import streamlit as st
import xarray as xr

from model.atlas.folder import Sweep
from model.atlas.null import null, split_half
from model.trace.derived import derived
from pages.observe.atlas import choices


def show(sweep: Sweep, kind: str | None, layer: int, expert: int) -> None:
    """Draw the tab."""
    if kind is None:
        st.info(choices.UNLABELLED)
        return
    with st.spinner("Shuffling the documents' labels"):
        shuffled = derived(sweep, ("null", kind), lambda: null(sweep, kind))
        halves = derived(sweep, ("halves", kind), lambda: split_half(sweep, kind))
    st.markdown(f"{of_shuffles(shuffled, kind)}\n\n{of_halves(halves)}")
    st.caption(
        "The tests treat a document as one observation. If they were too lax, for example by counting tokens, they "
        "would also call labels that were dealt to the documents at random."
    )


def of_shuffles(found: xr.Dataset, kind: str) -> str:
    """Return a sentence on how many lifts the tests call when labels are shuffled."""
    draws, tests = found.sizes["shuffle"], sum(found["tests"].values.tolist())
    calls = sum(found["calls"].values.tolist())
    return (
        f"**Shuffled labels: {found.attrs['false_calls']:.2%} false calls.** The {kind} of the documents was shuffled "
        f"{draws} times; the tests then called {calls:,} of {tests:,} lifts, all of them false. "
        f"n = {found.attrs['documents']:,} documents; simulated."
    )


def of_halves(found: xr.Dataset) -> str:
    """Return a sentence on how well the lifts of two random halves of the documents agree."""
    halves, whole = (median(found[name].values.tolist()) for name in ("spearman", "reliability"))
    return (
        f"**Two random halves of the documents agree: rank correlation {halves:.3g} of their lifts**, the median of "
        f"{found.sizes['split']} splits; by Spearman and Brown, {whole:.3g} for the whole corpus. Derived."
    )
