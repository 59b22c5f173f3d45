"""Widgets whose choices all pages share, and helpers for charts, tabs and tables.

The page's URL holds each shared choice under its widget key.
"""

import contextlib
import functools
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
import xarray as xr
from streamlit.delta_generator import DeltaGenerator
from streamlit.errors import StreamlitAPIException

from model.run.request import FIELDS
from model.trace.attention import ALL_HEADS
from model.trace.expert_tokens import newest_token
from model.trace.observed_rule import rule_of
from model.trace.trace import Trace
from pages.common import files, session, tables, text

SHARED = ("layer", "token", "expert", "head")
KEPT = (*SHARED, *(field.key for field in FIELDS.values()), "tokens", "special")
ALL_HEADS_NAME = "all"
POPULATIONS = ("all", "prompt", "generated")
# One-line meanings of the words on the widgets.
LAYER = "The layers of a model work on the text one after the other; the number is the layer's position, from 0."
EXPERT = "An expert is one of many small networks in an MoE layer; the router sends each token to a few of them."
HEAD = "A head is one of several attention computations in a layer; each has weights of its own."
SPECIAL = "A special token, such as the one that begins a text, stands for no text."


def keep() -> None:
    """Keep every choice in the session, also on a page without its widget.

    Call it on each script run, before any widget.

    Streamlit forgets the value of a widget that is not drawn, unless it was assigned in the same run.
    """
    for name in KEPT:
        if name in st.session_state:
            st.session_state[name] = st.session_state[name]


def take_from_address(page: str) -> None:
    """Set the shared choices from the URL when the visitor opens a page, by a link, the menu or Back.

    Call it before any widget. A choice that the URL lacks keeps its value.

    Args:
        page: name of the page that this script run draws; nothing is set while the page stays the same.
    """
    if st.session_state.get("address-taken") != page:
        st.session_state["address-taken"] = page
        files.forget()
        take(st.query_params.to_dict())


def take(address: Mapping[str, str]) -> None:
    """Set the shared choices from names and texts as in a URL. A missing or wrong choice keeps its value."""
    for name in SHARED:
        written = address.get(name, "")
        if (name, written) == ("head", ALL_HEADS_NAME):
            st.session_state[name] = ALL_HEADS
        elif re.fullmatch("[0-9]{1,9}", written):
            st.session_state[name] = int(written)
    if address.get("tokens") in POPULATIONS:
        st.session_state["tokens"] = address["tokens"]
    if address.get("special") in ("true", "false"):
        st.session_state["special"] = address["special"] == "true"


def mirror() -> None:
    """Write the shared choices to the URL, on every page.

    Streamlit's own binding of a widget to the URL is not used: it drops the value from the URL when another
    page is opened, and resets the value when the visitor goes back.
    """
    for name, written in choices().items():
        write_address(name, written)


def choices() -> dict[str, str | None]:
    """Return the text in a URL of each shared choice; None if the choice has its default."""
    state, part = st.session_state, st.session_state.get("tokens")
    numbers = {name: state.get(name) for name in SHARED}
    return {
        name: None if value is None else ALL_HEADS_NAME if value == ALL_HEADS else str(value)
        for name, value in numbers.items()
    } | {
        "tokens": None if part == POPULATIONS[0] else part,
        "special": None if state.get("special", True) else "false",
    }


def write_address(name: str, value: str | None) -> None:
    """Set a parameter of the URL; None removes it. A parameter that is bound to a widget keeps its value."""
    # Streamlit raises for a key that is bound to a widget, and has no public test for it.
    with contextlib.suppress(StreamlitAPIException):
        if value is None and name in st.query_params:
            del st.query_params[name]
        elif value is not None and st.query_params.get(name) != value:
            st.query_params[name] = value


def choose(**chosen: int | str | None) -> None:
    """Set choices by widget key, such as those in `SHARED`. A callback, for example of a click on a chart."""
    st.session_state.update(chosen)


def layer(trace: Trace | None, dim: str = "moe_layer", options: list[int] | None = None) -> int:
    """Draw a list of layers and return the chosen model layer number.

    Args:
        trace: trace of the run; may be None if `options` are given.
        dim: dimension of the trace, such as `moe_layer` or `layer`, whose layers are listed by default.
        options: model layer numbers to list; None: those of `dim`.
    """
    options = options or (layers(trace, dim) if trace else [])
    keep_within("layer", options)
    names = trace.shape.block_name if trace and dim == "moe_layer" else str
    return st.selectbox("Layer", options, key="layer", format_func=names, help=LAYER)


def layers(trace: Trace, dim: str = "moe_layer") -> list[int]:
    """Return the model layer numbers of a dimension; all layers of the model if the trace lacks the dimension."""
    if dim in trace.data.coords:
        return trace.data[dim].values.tolist()
    return list(range(trace.shape.num_layers))


def token(trace: Trace) -> int:
    """Draw a field for a token's number and return the number; by default, the newest token with known experts."""
    chosen = locked_token(trace)
    return newest_token(trace) if chosen is None else chosen


def locked_token(trace: Trace) -> int | None:
    """Draw a field for a token's number and return the number; None if the field is empty."""
    last, newest = trace.num_tokens - 1, newest_token(trace)
    keep_within("token", range(trace.num_tokens))
    meaning = "The token's number in the run, from 0. Empty: the newest" + (
        " token whose experts are known." if newest < last else " token."
    )
    return st.number_input("Token", 0, last, None, 1, key="token", help=meaning, placeholder=str(newest))


def head(trace: Trace, options: list[int] | None = None) -> int:
    """Draw a list of attention heads and return the chosen number.

    `options` are the numbers to list; None lists the recorded heads, or all heads if none was recorded.
    """
    choices = _recorded_heads(trace) if options is None else options
    keep_within("head", choices)
    return st.selectbox("Head", choices, key="head", format_func=_head_name, help=HEAD)


def head_or_all(trace: Trace) -> int:
    """Draw a list of the recorded attention heads and their mean (`ALL_HEADS`); return the chosen number."""
    recorded = _recorded_heads(trace)
    return head(trace, [*recorded, ALL_HEADS] if len(recorded) > 1 else recorded)


def _head_name(number: int) -> str:
    return ALL_HEADS_NAME if number == ALL_HEADS else str(number)


def heaviest_expert(trace: Trace, token: int, layer: int) -> int:
    """Return the expert with the largest gate weight for a token in a layer; 0 if these experts are unknown."""
    return max(0, int(trace.data["expert_id"].sel(moe_layer=layer).values[token, 0]))


def _recorded_heads(trace: Trace) -> list[int]:
    if "head" in trace.data.coords:
        return [int(number) for number in trace.data["head"].values]
    return list(range(trace.shape.num_heads or 1))


@overload
def expert(trace: Trace | int, default: int) -> int: ...
@overload
def expert(trace: Trace | int, default: None = None) -> int | None: ...
def expert(trace: Trace | int, default: int | None = None) -> int | None:
    """Draw a field for an expert's number and return the number; `default` if the field is empty.

    Args:
        trace: trace of the run, or the number of experts of a layer.
        default: number for an empty field.
    """
    number = trace if isinstance(trace, int) else rule_of(trace).num_experts
    keep_within("expert", range(number))
    chosen = st.number_input(
        "Expert", 0, number - 1, None, 1, key="expert", help=EXPERT,
        placeholder="none" if default is None else str(default),
    )  # fmt: skip
    return default if chosen is None else chosen


def population(trace: Trace) -> xr.DataArray:
    """Draw the choice of the tokens that count in the statistics, and return their mask, [token] bool.

    The options are prompt, generated or all tokens, with or without special tokens.
    """
    left, right = st.columns(2, vertical_alignment="bottom")
    part = left.segmented_control(
        "Tokens that count",
        POPULATIONS,
        default="all",
        required=True,
        key="tokens",
        help="Prompt: the tokens of the text that was typed. Generated: the tokens that the model added.",
    )
    special = right.toggle("Special tokens", value=True, key="special", help=SPECIAL)
    prompt = trace.prompt_mask
    mask = {"prompt": prompt, "generated": ~prompt}.get(part or "all", xr.ones_like(prompt))
    mask = mask if special else mask & ~trace.special_mask
    right.caption(f"n = {np.count_nonzero(mask):,} tokens")
    return mask


def token_names(trace: Trace) -> list[str]:
    """Return the names of all tokens, as tables show them."""
    return [text.token(trace, index) for index in range(trace.num_tokens)]


def open_tabs(names: Iterable[str], key: str) -> Iterator[tuple[str, DeltaGenerator]]:
    """Draw tabs and yield the name and container of the open one; the URL holds which tab is open.

    The caller enters the container. If this generator entered it and Streamlit ended the script inside it, the
    container would stay entered in the next script run.

    Args:
        names: names of the tabs, such as the keys of a page's `TABS`.
        key: widget key and URL parameter.
    """
    labels = list(names)
    for name, tab in zip(labels, st.tabs(labels, key=key, bind="query-params"), strict=True):
        if tab.open:
            yield name, tab


def chart(
    figure: go.Figure,
    key: str,
    table: pd.DataFrame,
    how_to_read: str,
    on_select: Any = "ignore",
    chooses: Sequence[str] = (),
    boxes: bool = False,
    layer: int | None = None,
) -> Any:
    """Show a figure, how to read it, its numbers as a table, and downloads of both; return Plotly's selection event.

    Args:
        figure: its toolbar saves it as SVG or PNG, as chosen in the sidebar.
        key: widget key, and part of the files' names.
        table: the numbers of the figure.
        how_to_read: a text on how to read the figure, in one line.
        on_select: the argument of `st.plotly_chart`; without effect if `chooses` is given.
        chooses: shared choices (`SHARED`) that a click on a point sets, in the order of the point's customdata.
        boxes: whether the visitor can also draw a rectangle, which the selection event then holds.
        layer: model layer number for the names of the files; None: the figure shows no single layer.
    """
    on_select = functools.partial(_take_click, key, chooses) if chooses else on_select
    picture = st.session_state.get("picture") or "svg"
    scale = session.text_scale()
    finished = files.annotated(figure, files.note(layer), scale)
    size = {"width": files.WIDTH_PX * scale, "height": finished.height, "scale": files.scale(picture) / scale}
    image = {"format": picture, "filename": files.file_name(key, layer)} | size
    setup = {"displaylogo": False, "displayModeBar": True, "toImageButtonOptions": image, "responsive": True}
    event = st.plotly_chart(
        finished, key=key, theme=None, config=setup, on_select=on_select, alt=how_to_read,
        selection_mode=("points", "box") if boxes else "points",
    )  # fmt: skip
    with st.expander("How to read this, and the numbers", icon=":material/help:"):
        st.markdown(how_to_read)
        st.dataframe(
            table, hide_index=True, height="content" if len(table) < 8 else 300, placeholder="",
            column_config=tables.three_digits(table),
        )  # fmt: skip
        download_table(table, key, layer)
    return event


def clicked(key: str) -> list[float]:
    """Return the `customdata` of the clicked point of a chart; an empty list if the click hit no point."""
    points = (st.session_state.get(key) or {}).get("selection", {}).get("points") or []
    data = points[0].get("customdata") if points else None
    # Streamlit sends a row of an array as {"0": ..., "1": ...}, and a row of a list as a list.
    return list(data.values() if isinstance(data, Mapping) else data or [])


def _take_click(key: str, names: Sequence[str]) -> None:
    """Set the shared choices `names` from the clicked point; a click that hit no point sets none."""
    if values := clicked(key):
        choose(**{name: int(value) for name, value in zip(names, values, strict=False)})


def download_table(table: pd.DataFrame, key: str, layer: int | None = None) -> None:
    """Show a button that saves a table as CSV, with all digits; pressing it makes the file.

    Args:
        table: the table; a row becomes a line of the file.
        key: part of the file's name and of the widget key.
        layer: model layer number for the name of the file; None: the table shows no single layer.
    """
    st.download_button(
        "CSV", data=lambda: table.to_csv(index=False).encode(errors="backslashreplace"), mime="text/csv",
        file_name=files.file_name(key, layer, "csv"), key=f"{key}-csv", on_click="ignore", icon=":material/download:",
    )  # fmt: skip


def keep_within(key: str, options: Container[object]) -> None:
    """Drop the stored choice of a widget if it is not among `options`; the widget would raise an error."""
    if st.session_state.get(key) is not None and st.session_state[key] not in options:
        del st.session_state[key]
