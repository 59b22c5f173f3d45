"""The tabs of the Routing page."""

from collections.abc import Callable

import streamlit as st
import xarray as xr

from model.trace.trace import Trace
from pages.common import controls
from pages.observe.routing import decision, expert, together


def _of_counted(
    show: Callable[[Trace, int, int, xr.DataArray], None],
) -> Callable[[Trace, int, int, int], None]:
    """Return a tab that draws the choice of the tokens that count (`controls.population`), then calls `show`."""

    def tab(trace: Trace, token: int, layer: int, expert: int) -> None:
        mask = controls.population(trace)
        if mask.any():
            show(trace, layer, expert, mask)
        else:
            st.info("No token of this run is of that kind. Choose other tokens.")

    return tab


TABS: dict[str, Callable[[Trace, int, int, int], None]] = {
    "This layer's choice": decision.show,
    "Who works with whom": _of_counted(together.show),
    "One expert": _of_counted(expert.show),
}
DECISION, TOGETHER, EXPERT = TABS
