"""The list of all installed models, in a dialog: what each is, and what a run records, before it is loaded."""

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.common import jobs, models, text
from pages.common.tables import WHOLE
from pages.frame.sidebar.described import Described, Description, described

NUMBERS = {
    "parameters": WHOLE,
    "active": WHOLE,
    "files (MB)": st.column_config.NumberColumn(format="localized"),
    "k": st.column_config.NumberColumn(format="%d", help="Experts per token."),
    "experts": st.column_config.TextColumn(help="Routed experts of a layer, without shared ones."),
    "does not record": st.column_config.TextColumn(width="large"),
}
DISK = 1e6  # bytes in a MB


def button() -> None:
    """Draw the button that opens the list."""
    if st.button("About the models", icon=":material/list_alt:", type="tertiary", key="folders"):
        _dialog()


@st.dialog("Models of this server", width="large")
def _dialog() -> None:
    st.markdown("What can run here, and what does a run record? The list needs only configurations and file headers.")
    placeholder, bar = st.container().empty(), st.container().empty()
    named = {name: described(folder) for name, folder in models.available().items()}
    while waiting := [read for read in named.values() if not read.done.is_set()]:
        _table(placeholder, named)
        bar.progress(1 - len(waiting) / len(named), "Reading configurations and headers")
        waiting[0].done.wait(10 / jobs.POLLS_PER_SECOND)
    bar.empty()
    _table(placeholder, named)
    _reasons({name: read.value for name, read in named.items()})


def _reasons(described_by_name: dict[str, Description]) -> None:
    """List why folders cannot be run, and what runs do not record with the names of the models: the table cuts both."""
    by_reason: dict[str, list[str]] = {}
    for name, model in described_by_name.items():
        shown = text.plain(name, 80)
        if not model.opens:
            st.caption(f"**{shown}** cannot be run: {text.sentence(model.missing[0])}")
            continue
        for reason in model.missing:
            by_reason.setdefault(reason, []).append(shown)
    if by_reason:
        lines = [f"- {text.sentence(reason)} *{', '.join(names)}*" for reason, names in by_reason.items()]
        st.caption("Not recorded, or to know:\n" + "\n".join(lines))


def _table(placeholder: DeltaGenerator, named: dict[str, Described]) -> None:
    rows = table({name: read.value for name, read in named.items() if read.done.is_set()})
    placeholder.dataframe(rows, hide_index=True, column_config=NUMBERS, height="content", placeholder="")


def table(described_by_name: dict[str, Description]) -> pd.DataFrame:
    """Return a table with a row per model."""
    return pd.DataFrame(
        [
            {
                "model": name,
                "family": model.family,
                "parameters": model.parameters,
                "active": model.active,
                "files (MB)": round(model.num_bytes / DISK, 1),
                "experts": model.experts,
                "k": model.top_k,
                "engine": model.engine,
                "records": model.recorded,
                "does not record": "; ".join(model.missing),
            }
            for name, model in described_by_name.items()
        ]
    )
