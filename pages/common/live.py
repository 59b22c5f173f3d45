"""Mount the lens (linked views of a run, drawn by the browser), and send it the tokens of a run in progress.

The component takes its data once per script run. During a run, each group of new tokens is therefore appended to the
page as one more hidden element. Replacing one element could lose tokens: the server sends only the latest content of a
placeholder. After the run the page calls `st.rerun()`, and the lens gets the whole run as a snapshot.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st
import streamlit.components.v2 as components

from model.run.protocol import EngineProtocol
from model.run.request import RunRequest
from model.trace.observed_rule import rule_of
from model.trace.trace import Trace
from viz import lens as source
from viz import theme
from viz.layout import Layout
from viz.lens import wire

_COMPONENT = components.component("moe_loupe_lens", html=source.HTML, css=source.CSS, js=source.JS)


def lens(
    snapshot: bytes,
    *,
    key: str,
    palette: Mapping[str, Any],
    view: Mapping[str, Any],
    band: tuple[float, float] | None = None,
    saved: Mapping[str, str] | None = None,
    on_view_change: Callable[[], None] = lambda: None,
) -> None:
    """Mount the lens; call it exactly once per script run.

    Args:
        snapshot: the run to show, from `snapshot_of`, or the run that is about to start, from `announce`.
        key: widget key; `st.session_state[key]["view"]` holds the visitor's choices that were not answered before, and
            the number of their report. The lens gets this number back as the answer.
        palette: colours for both themes, from `palettes`.
        view: choices to set: layer, head, token, expert (numbers or None), colour (expert, group, surprisal, none), map
            (experts, layers). A choice that `view` lacks stays as it is in the browser.
        band: lowest and highest load ratio of an expert that chance explains in the finished run; None: unknown.
        saved: settings of saved maps: the beginnings of `note` and `file` name, and the format `picture`, svg or png.
        on_view_change: called before the rerun that a choice in the lens causes; never called during a run.
    """
    received = (st.session_state.get(key) or {}).get("view") or {}
    answering = dict(view) | {"report": received.get("report")}
    data = wire.with_settings(snapshot, palette=dict(palette), view=answering, band=band, saved=saved)
    _COMPONENT(key=key, data=data, default={"view": dict(view)}, on_view_change=on_view_change, height="content")


def palettes(layout: Layout) -> dict[str, Any]:
    """Return the lens's colours for both themes; the lens picks one by the browser's theme."""
    return {name: theme.palette(layout, chosen) for name, chosen in theme.THEMES.items()}


def snapshot_of(trace: Trace, run: int) -> bytes:
    """Return the trace of a finished run as a message for the lens; `run` is the run's number, unique on the server."""
    arrays = {str(name): values.values for name, values in trace.data.data_vars.items()}
    return wire.snapshot(header_of(trace, run), trace.tokens, trace.text, arrays)


def announce(header: wire.Header) -> bytes:
    """Return the message that announces a run; the lens shows the run before it until the first tokens arrive."""
    return wire.snapshot(header)


def header_for(engine: EngineProtocol, request: RunRequest, run: int) -> wire.Header:
    """Return the axes of the run that the engine will do for the request."""
    shape, capture = engine.shape, request.capture
    attentive = "attention" in capture.variables
    recordable = engine.abilities.attention_layers or range(shape.num_layers)
    layers = recordable if capture.layers is None else sorted(capture.layers)
    heads = range(shape.num_heads) if capture.heads is None else sorted(capture.heads)
    return wire.Header(
        run=run,
        moe_layers=tuple(shape.moe_layers),
        layout=shape,
        attention_layers=tuple(layers) if attentive else (),
        heads=tuple(heads) if attentive else (),
        running=True,
    )


def header_of(trace: Trace, run: int) -> wire.Header:
    """Return the axes of a trace."""
    data = trace.data
    return wire.Header(
        run=run,
        moe_layers=_labels(data, "moe_layer") if trace.has("expert_id") else (),
        layout=rule_of(trace),
        attention_layers=_labels(data, "attention_layer") if trace.has("attention") else (),
        heads=_labels(data, "head") if trace.has("attention") else (),
        running=False,
    )


class Feed:
    """Send a run in progress to the lens, one hidden element after the other."""

    def __init__(self, header: wire.Header, blocks: Sequence[bytes]) -> None:
        """Store the axes of a run and the list of its packed steps, to which the run appends new ones."""
        self._header, self._blocks, self._placeholder = header, blocks, st.container(key="ticks")
        self._sent = 0

    def send(self) -> None:
        """Send the steps that are new since the last call. The lens skips steps that it has already received."""
        new = self._blocks[self._sent :]
        if new:
            self._sent += len(new)
            self._placeholder.html(wire.tick(self._header, new, self._sent))


def _labels(data: Any, dim: str) -> tuple[int, ...]:
    return tuple(data[dim].values.tolist())
