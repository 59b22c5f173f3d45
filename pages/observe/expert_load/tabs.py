"""The tabs of the Expert load page."""

from collections.abc import Callable

import streamlit as st

from model.trace.derived import derived
from model.trace.load import Load
from pages.common import controls, session, text
from pages.common.tables import THREE
from pages.observe.expert_load import devices, sentences, tables
from viz import load as figures

_STRIP = "The strip below the bars marks the groups. "


def one_layer(load: Load, layer: int, expert: int | None) -> None:
    """Draw the load of one layer as bars, and describe the chosen expert; without a choice, the busiest expert."""
    ratio = load.ratio.sel(moe_layer=layer)
    st.markdown(sentences.about_busiest(load, layer) if expert is None else sentences.about_expert(load, layer, expert))
    look = session.theme()
    key = ("bars", layer, expert, look)
    figure = derived(load, key, lambda: figures.load_bars(ratio, load.rule, look, load.band, expert))
    how_to_read = (
        f"The experts of L{layer}. The dashed line is a fair share; in 95 % of fair layers, the grey band holds all "
        f"experts. {text.fair(load.rule)} {_STRIP if load.rule.num_groups > 1 else ''}A cross is an expert without a "
        "token. The table has each expert's share of the tokens with its 95 % interval (Wilson, as if tokens were "
        "independent). Click a bar."
    )
    table = derived(load, ("table", layer), lambda: tables.by_expert(load, layer))
    controls.chart(figure, "load-layer", table, how_to_read, chooses=("expert",), layer=layer)


def all_layers(load: Load, layer: int, expert: int | None) -> None:
    """Draw the load of all layers as small bars."""
    figure = figures.load_strip(load.ratio, load.rule, session.theme(), load.band)
    how_to_read = (
        "A row of bars per layer: each expert's load divided by a fair share, which is the dotted line. Bars end at "
        "4. Grey bars are within chance, orange ones above, blue ones below; in 95 % of fair layers all are grey. "
        f"{text.fair(load.rule)} Click a bar."
    )
    table = tables.by_layer_and_expert(load)
    controls.chart(figure, "load-strip", table, how_to_read, chooses=("layer", "expert"))


def groups(load: Load, layer: int, expert: int | None) -> None:
    """Draw how the groups share the load."""
    if load.rule.num_groups == 1:
        st.info("This model has no routing groups.")
        return
    figure = figures.group_load(load.group_ratio, session.theme(), load.band)
    how_to_read = (
        "A row per layer, a column per group of experts. The number is how often the group's experts were chosen, "
        "divided by a fair share. A dot marks a load that chance alone does not explain: in 95 % of fair layers no "
        f"group has a dot. {text.fair(load.rule)} The table has the share of tokens that kept the group, with its "
        "95 % interval (Wilson, as if tokens were independent)."
    )
    controls.chart(figure, "load-groups", tables.by_group(load), how_to_read, chooses=("layer",))


def on_devices(load: Load, layer: int, expert: int | None) -> None:
    """Draw the load of devices."""
    devices.show(load)


def numbers(load: Load, layer: int, expert: int | None) -> None:
    """List the measures of balance of every layer, below a row with the bounds of a random router."""
    table = tables.by_layer(load)
    formats = {name: THREE for name in ("MaxVio", "CV", "entropy", "Gini")}
    st.dataframe(
        table, hide_index=True, column_config=formats, height="content" if len(table) < 16 else 560, placeholder=""
    )
    st.caption(
        "MaxVio: the busiest expert's load minus the mean, divided by the mean. CV: standard deviation divided by "
        "mean. Entropy: how widely tokens spread over the experts, 1 is even. Gini: inequality of the load, 0 is "
        "even. Dead: experts without a token. Hot: experts with at least twice the mean. Beyond chance: experts with "
        "a dot on the map. The first row gives the limits of chance: in 95 % of layers, fair routing of "
        f"{load.num_tokens:,} tokens has at least this entropy, and at most the row's other numbers. The other rows "
        "are derived from measured counts."
    )
    controls.download_table(table, "load-figures")


TABS: dict[str, Callable[[Load, int, int | None], None]] = {
    "One layer": one_layer,
    "All layers as bars": all_layers,
    "Groups": groups,
    "Devices": on_devices,
    "Figures of every layer": numbers,
}
LAYER, BARS, GROUPS, DEVICES, NUMBERS = TABS
