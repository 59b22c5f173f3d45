"""The Devices tab for a sweep: experts placed by half of its documents, and judged on the other half."""

from pathlib import Path

import pandas as pd
import streamlit as st
import xarray as xr

from model.atlas import library
from model.atlas.errors import AtlasError
from model.atlas.folder import Sweep
from model.atlas.manifest import Manifest
from model.atlas.placement.judge import Alone, Estimate, Windows, by_label, by_layer, by_windows, means
from model.atlas.placement.loads import of_sweep
from model.atlas.placement.plan import Layout, Plan, plan
from model.trace.derived import derived
from model.trace.load import Load
from model.trace.placement import device_figures
from pages.common import controls, session, text
from viz import devices as figures


def names(load: Load) -> list[str]:
    """Return the names of the installed sweeps whose model has the layers and experts of a load."""
    shape = tuple(load.computing["moe_layer"].values.tolist()), load.computing.sizes["expert"]
    return [name for name, folder in library.available().items() if _shape(folder) == shape]


def _shape(folder: Path) -> tuple[tuple[int, ...], int] | None:
    """Return the MoE layers and the number of experts of the model of a sweep; None if its manifest is unreadable."""
    try:
        manifest = Manifest.read(folder)
    except AtlasError:
        return None
    return manifest.layers, manifest.model["num_experts"]


def show(name: str, layout: Layout) -> None:
    """Draw the answer in words, the figure and the tables of a sweep; say why if it cannot be judged."""
    try:
        sweep = library.opened(name)
        made = derived(sweep, ("placement", layout), lambda: plan(of_sweep(sweep), layout))
    except AtlasError as error:
        st.info(text.sentence(error))
        return
    windows = derived(sweep, ("placement windows", layout), lambda: by_windows(made))
    layers = derived(sweep, ("placement layers", layout), lambda: by_layer(made))
    st.markdown(derived(sweep, ("placement verdict", layout), lambda: verdict(sweep, made, layers, windows)))
    ratios = derived(sweep, ("placement ratios", layout), lambda: _ratios(made))
    how_to_read = (
        "Two maps with a row per MoE layer and a column per device. Both show the held-out half of the documents: on "
        "the left, experts are in the order of their numbers; on the right, EPLB placed them, and saw the other half "
        "only. 1 is the mean load of the layer's devices, orange is more, blue less. Balancedness is the mean load "
        "divided by the largest. Simulated from counts, and no time. A sweep reads its texts as prompts, so this is "
        "prefill. Click a cell to choose its layer."
    )
    figure = figures.device_load(ratios[0], ratios[1], session.theme())
    controls.chart(figure, "load-devices", layers_table(layers), how_to_read, chooses=("layer",))
    st.dataframe(windows_table(windows), hide_index=True, key="devices-windows", placeholder="")
    st.caption(
        "Held-out documents that are served together: small batches are less even than a whole corpus. 95 % intervals "
        "over windows; none for fewer than 20 windows."
    )


def _ratios(made: Plan) -> list[xr.DataArray]:
    """Return the load ratio of each device on the held-out half: experts by number if they divide, and placed."""
    held = made.load(made.held_U)
    before = made.placement if made.numbered is None else made.numbered
    return [device_figures(placement, held)["ratio"] for placement in (before, made.placement)]


def verdict(sweep: Sweep, made: Plan, layers: xr.Dataset, windows: list[Windows]) -> str:
    """Return a few sentences: the balancedness of both halves, of batches, and of the label that suits worst."""
    mean = means(layers)
    copies = made.placement.expert.sizes["place"] - made.placement.num_experts
    named, model = text.plain(sweep.folder.name), text.plain(sweep.manifest.model.get("name", "a model"))
    words = (
        f"**On documents that it was not fitted to, EPLB's placement has a balancedness of {mean['held_out']:.3g}. "
        f"Experts placed by number have {mean['numbered']:.3g}.** On the half that it was fitted to, EPLB has "
        f"{mean['fit']:.3g}, which flatters. Sweep {named} of {model}, {made.loads.extent}; "
        f"{made.placement.num_devices} devices, {copies} redundant experts; mean of layers, simulated."
    )
    single = next((window for window in windows if window.name.startswith("16 ")), None)
    words += "" if single is None else f" For 16 documents at a time it is {single.placed.mean:.3g}."
    lowest = by_label(made)[:1]
    return words + "".join(_about(alone, made.loads.kind) for alone in lowest)


def _about(alone: Alone, kind: str) -> str:
    return (
        f" The {kind} that it suits worst is {text.plain(alone.label)}: served alone, {alone.held_out:.3g}, and "
        f"{alone.numbered:.3g} by number."
    )


def layers_table(layers: xr.Dataset) -> pd.DataFrame:
    """Return a table with a row per layer: balancedness by number and placed, on the held-out half, and of the fit."""
    return pd.DataFrame(
        {
            "layer": [f"L{layer}" for layer in layers["moe_layer"].values],
            "by number, held out": layers["numbered"].values,
            "placed, held out": layers["held_out"].values,
            "placed, fitted half": layers["fit"].values,
        }
    )


def windows_table(windows: list[Windows]) -> pd.DataFrame:
    """Return a table with a row per kind of window: the mean balancedness by number, placed, and the gain."""
    return pd.DataFrame(
        {
            "held-out documents": [window.name for window in windows],
            "windows": [window.number for window in windows],
            "by number": [_figure(window.numbered) for window in windows],
            "placed": [_figure(window.placed) for window in windows],
            "gain": [_figure(window.gain) for window in windows],
        }
    )


def _figure(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    low_high = "" if estimate.interval is None else " ({:.3f} to {:.3f})".format(*estimate.interval)
    return f"{estimate.mean:.3f}{low_high}"
